"""Log records as values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from supervisor.levels import Level

__all__ = ["ExceptionRecord", "Frame", "Level", "LogRecord", "LogSource"]


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
