"""Log records as values, and the rule that makes a plugin's text safe to print."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["ExceptionRecord", "Frame", "Level", "LogRecord", "LogSource", "escape_text", "quote_text"]


class Level(enum.IntEnum):
    """Severities with the numbers that stdlib logging and structlog use."""

    TRACE = 5
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50

    @classmethod
    def from_name(cls, name: str) -> Level | None:
        """Return the level that `name` means in stdlib logging, structlog, hclog, slog or logrus; None if none."""
        return _BY_NAME.get(name.strip().lower())

    @classmethod
    def from_number(cls, number: int) -> Level:
        """Return the highest level not above `number`."""
        return max((level for level in cls if level <= number), default=cls.TRACE)


_BY_NAME: Mapping[str, Level] = MappingProxyType(
    {
        "trace": Level.TRACE,
        "debug": Level.DEBUG,
        "info": Level.INFO,
        "notice": Level.INFO,
        "warn": Level.WARNING,
        "warning": Level.WARNING,
        "err": Level.ERROR,
        "error": Level.ERROR,
        "exception": Level.ERROR,
        "critical": Level.CRITICAL,
        "fatal": Level.CRITICAL,
        "panic": Level.CRITICAL,
    }
)


class LogSource(enum.StrEnum):
    """Which way a record came."""

    STREAM = "stream"
    STDERR = "stderr"
    STDOUT = "stdout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One line of a traceback, outermost first."""

    filename: str
    lineno: int
    name: str
    line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionRecord:
    """An exception as a plugin reported it; `text` is the whole rendered traceback, causes included."""

    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One log record of a plugin.

    Attributes:
        level: its severity.
        event: its message, escaped.
        logger: the name of the logger, empty when none was given.
        logged_at: the plugin's own clock in seconds since the epoch, None when it did not say.
        fields: its key/values with their types (str, int, float, bool, None, list, dict).
        exception: the exception it reports, if any.
        source: which way it came.
        truncated: whether it was cut at the line limit.
    """

    level: Level
    event: str
    logger: str = ""
    logged_at: float | None = None
    fields: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    exception: ExceptionRecord | None = None
    source: LogSource = LogSource.STDERR
    truncated: bool = False


# C0 and C1 controls, DEL, zero-width and bidi controls, line and paragraph separators, BOM, surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ud800-\udfff]")
_UNSAFE_BUT_NEWLINE = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")  # noqa: PLR2004


def escape_text(text: str, *, multiline: bool = False) -> str:
    """Make `text` safe for a terminal and a line-oriented log: controls become visible escapes.

    A plugin could otherwise forge lines, move the cursor, reverse the reading direction or break an encoder with a
    lone surrogate. With `multiline` newlines and tabs stay, for tracebacks.
    """
    return (_UNSAFE_BUT_NEWLINE if multiline else _UNSAFE).sub(_escape, text)


def quote_text(text: str | bytes, *, limit: int = 80, mark: str = "'") -> str:
    r"""Return foreign text as a message may quote it: escaped, of at most `limit` characters, between two `mark`s.

    Bytes are read as UTF-8, with what is not UTF-8 shown as `\xNN`.
    """
    # Four bytes make at most one character: cut before decoding, so that a quote of a large text costs nothing.
    shown = text[: 4 * limit + 4].decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text[: limit + 1]
    safe = escape_text(shown)
    return f"{mark}{safe if len(safe) <= limit else safe[: limit - 1] + '…'}{mark}"
