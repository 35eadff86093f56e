"""hclog's JSON lines: how a plugin logs on stderr, so that hosts written in Go understand it too.

A Go host takes the line only if `@timestamp` has exactly six fraction digits, `@level` is one of five words, and both
and `@message` are strings (anything else ends its process); and only lines shorter than 64 KiB.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from supervisor.levels import Level
from supervisor.records import ExceptionRecord
from supervisor.services.log_values import cut_text, freeze

__all__ = ["LINE_LIMIT", "format_line"]

LINE_LIMIT: Final = 60 * 1024
"""Most bytes of a line."""

_EVENT_LIMIT: Final = 16 * 1024
_EXCEPTION_LIMIT: Final = 32 * 1024
"""Most bytes of these two, as JSON: up to twelve for one character."""

_WORDS: Final = {
    Level.TRACE: "trace",
    Level.DEBUG: "debug",
    Level.INFO: "info",
    Level.WARNING: "warn",
    Level.ERROR: "error",
    Level.CRITICAL: "error",
}

_encode = json.JSONEncoder(separators=(",", ":"), default=repr, allow_nan=False).encode
"""ASCII only, so that a lone surrogate or a line separator cannot break a line."""


def format_line(
    level: int,
    event: str,
    *,
    logger: str = "",
    logged_at: float,
    fields: Mapping[str, object] = MappingProxyType({}),
    exception: ExceptionRecord | None = None,
) -> bytes:
    """Return the line, its newline included. Never raises for what is logged.

    Args:
        level: stdlib logging's number.
        event: the message.
        logger: the logger's name.
        logged_at: seconds since the epoch.
        fields: key/values of any type. Those that make the line too long are left out.
        exception: becomes the field `exception`, the traceback as text.
    """
    parts = [
        f'"@level":"{_WORDS[Level.from_number(level)]}"',
        f'"@message":{_encode_text(event, _EVENT_LIMIT)}',
        f'"@timestamp":"{_format_moment(logged_at)}"',
    ]
    if logger:
        parts.append(f'"@module":{_encode_text(logger, 1024)}')
    if exception is not None:
        text = exception.text or f"{exception.type}: {exception.message}"
        # The end of a traceback says more than its beginning.
        parts.append(f'"exception":{_encode_text(text, _EXCEPTION_LIMIT, keep_end=True)}')
    room = LINE_LIMIT - sum(map(len, parts)) - len(parts)
    for key, value in fields.items():
        part = _encode_field(_safe_key(str(key)), value)
        room -= len(part) + 1
        if room < 0:
            parts.append('"truncated":true')
            break
        parts.append(part)
    return ("{" + ",".join(parts) + "}\n").encode("ascii")


def _encode_text(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Return `text` as JSON of at most `limit` bytes, cut at one end if need be."""
    encoded = _encode(text)
    while len(encoded) > limit:
        # In proportion, and a little less; characters differ in how many bytes they take, so it may need another turn.
        kept = max(1, len(text) * limit // len(encoded) - 16)
        text = text[-kept:] if keep_end else text[:kept]
        encoded = _encode("…" + text if keep_end else text + "…")
    return encoded


def _encode_field(key: str, value: object) -> str:
    frozen = freeze(value)
    try:
        return f"{_encode(cut_text(key, 256))}:{_encode(frozen)}"
    except ValueError:
        # NaN and infinity are not JSON.
        return f"{_encode(cut_text(key, 256))}:{_encode(repr(frozen))}"


def _safe_key(key: str) -> str:
    return f"_{key}" if key.startswith("@") else key


def _format_moment(moment: float) -> str:
    try:
        when = dt.datetime.fromtimestamp(moment, dt.UTC)
    except (OverflowError, OSError, ValueError):
        when = dt.datetime.fromtimestamp(0, dt.UTC)
    return when.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
