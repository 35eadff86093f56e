"""One line of text to one log record.

JSON of hclog, structlog, python-json-logger, slog, logrus and zap is understood, and so are hclog's text and level
prefixes. What is understood is taken out, what is not stays as a field, and a line that is none of this is a record at
INFO: programs print on stderr what they want to be seen, and go-plugin's DEBUG hides it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeVar

from supervisor.levels import Level
from supervisor.log_lines.hclog_text import read_hclog_text
from supervisor.log_lines.tracebacks import GROUP_HEADER, HEADER, parse_traceback, read_stacks
from supervisor.quoting import escape_text
from supervisor.records import ExceptionRecord, LogRecord, LogSource

__all__ = ["MAX_DEPTH", "parse_line"]

T = TypeVar("T")

MAX_DEPTH: Final = 32
"""Deepest nesting of JSON that is read; the standard library's parser recurses."""

_MESSAGES = ("@message", "event", "message", "msg")
_HCLOG = {"level": ("@level",), "time": ("@timestamp",), "logger": ("@module",), "exception": ("exception",)}
_OTHERS = {
    "level": ("level", "levelname", "severity"),
    "time": ("timestamp", "time", "asctime", "ts"),
    "logger": ("logger", "logger_name"),
    "exception": ("exception", "exc_info"),
}
# python-json-logger says `name`, which with anybody else is a field like any other.
_STDLIB = _OTHERS | {"level": ("levelname", "level"), "logger": ("name", "logger")}

_LEVELS = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|CRITICAL|FATAL"
_PREFIX = re.compile(
    rf"(?i:\[(?P<tag>{_LEVELS})\]):?\s*"  # [WARN] message
    # LEVEL:logger:message is the default format of the standard library; but not ERROR:http://...
    rf"|(?P<stdlib>{_LEVELS}):(?:(?P<logger>[\w.]+):(?!//))?\s*"
    rf"|(?i:(?P<colon>{_LEVELS})):\s+"  # warning: message
    rf"|(?P<bare>{_LEVELS})(?=\s)"  # ERROR message: upper case only, and the word may be part of the sentence
)
# A string may lack its end, so that the search never starts over.
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_SAFE_DIGITS = 19  # 64 bits, sign included
_LATEST = 253402300800.0  # the year 10000


def parse_line(line: bytes | str, *, source: LogSource = LogSource.STDERR, truncated: bool = False) -> LogRecord:
    r"""Return the record that `line` is; never raises.

    Args:
        line: a line without its newline. Bytes that are not UTF-8 show as `\xNN`.
        source: which way it came.
        truncated: whether it is a piece of a longer line, which is not worth parsing as JSON.
    """
    text = line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line
    if not truncated and (found := _load_object(text)) is not None:
        record = _read_object(found, source)
        if record is not None:
            return record
    return _read_text(text, source, truncated=truncated)


def _read_text(text: str, source: LogSource, *, truncated: bool) -> LogRecord:
    if not truncated and (parts := read_hclog_text(text)) is not None:
        return LogRecord(
            level=Level.from_name(parts.level) or Level.INFO,
            event=escape_text(parts.message),
            logger=escape_text(parts.logger),
            logged_at=_read_time(parts.time),
            fields=MappingProxyType({escape_text(key): _clean(value) for key, value in parts.fields.items()}),
            source=source,
        )
    level, logger, event = Level.INFO, "", text
    if found := _PREFIX.match(text):
        name = found["tag"] or found["stdlib"] or found["colon"] or found["bare"]
        level = Level.from_name(name) or Level.INFO
        logger = found["logger"] or ""
        event = text if found["bare"] else text[found.end() :] or text
    return LogRecord(level=level, event=escape_text(event), logger=logger, source=source, truncated=truncated)


def _load_object(text: str) -> dict[str, object] | None:
    """Return the JSON object that `text` is, None if it is none that is safe to read."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")) or _depth(text) > MAX_DEPTH:
        return None
    try:
        found = json.loads(text, parse_int=_read_integer, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for token in _NESTING.finditer(text):
        match text[token.start()]:
            case "[" | "{":
                depth += 1
                deepest = max(deepest, depth)
            case "]" | "}":
                depth -= 1
    return deepest


def _read_integer(digits: str) -> int | str:
    # int() refuses more than 4,300 digits, and what takes the record may refuse more than 64 bits.
    return int(digits) if len(digits) <= _SAFE_DIGITS else digits


def _read_object(found: dict[str, object], source: LogSource) -> LogRecord | None:
    """Return the record that a JSON object is, None if it has no message."""
    message_key = next((key for key in _MESSAGES if key in found), None)
    if message_key is None:
        return None
    message = found.pop(message_key)
    if isinstance(message, dict | list) or message is None:
        return None
    keys = _HCLOG if message_key == "@message" else _STDLIB if "levelname" in found else _OTHERS
    level = _take(found, keys["level"], _read_level)
    logged_at = _take(found, keys["time"], _read_time)
    logger = _take(found, keys["logger"], _read_string)
    exception = _take(found, keys["exception"], _read_exception)
    return LogRecord(
        level=level if level is not None else Level.ERROR if exception else Level.INFO,
        event=escape_text(message if isinstance(message, str) else json.dumps(message)),
        logger=logger or "",
        logged_at=logged_at,
        fields=MappingProxyType({escape_text(key): _clean(value) for key, value in found.items()}),
        exception=exception,
        source=source,
    )


def _take(found: dict[str, object], keys: tuple[str, ...], read: Callable[[object], T | None]) -> T | None:
    """Take the first of `keys` that can be read out of `found`; what cannot be read stays."""
    for key in keys:
        if key in found and (value := read(found[key])) is not None:
            del found[key]
            return value
    return None


def _read_level(value: object) -> Level | None:
    # Numbers are left alone: 30 is a warning to the standard library and information to pino.
    return Level.from_name(value) if isinstance(value, str) else None


def _read_string(value: object) -> str | None:
    return escape_text(value) if isinstance(value, str) else None


def _read_time(value: object) -> float | None:
    """Read seconds since the epoch, or ISO 8601 with a zone: a plugin's local time cannot be known."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            value = moment.timestamp() if moment.tzinfo else None
        except (ValueError, OverflowError):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Go's zero time is the year 1 and means that there was none.
    return float(value) if 0 <= value < _LATEST else None


def _read_exception(value: object) -> ExceptionRecord | None:
    if isinstance(value, str):
        lines = value.splitlines()
        return parse_traceback(lines) if HEADER in lines or GROUP_HEADER in lines else None
    return read_stacks(value)


def _clean(value: object) -> object:
    match value:
        case str():
            return escape_text(value)
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {escape_text(key): _clean(item) for key, item in value.items()}
        case list():
            return [_clean(item) for item in value]
        case _:
            return value
