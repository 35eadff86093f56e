"""structlog inside a plugin: each event goes to the sink, after the author's own processors."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import MutableMapping
from typing import Any, NoReturn

import structlog

from supervisor.levels import Level
from supervisor.records import ExceptionRecord
from supervisor.sdk.log_sink import LogSink
from supervisor.sdk.tracebacks import describe_exception

__all__ = ["SinkProcessor", "capture_structlog"]


class SinkProcessor:
    """The last processor but the renderer: takes every event, so that nothing is rendered."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink

    def __call__(self, logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> NoReturn:
        """Take one event.

        Raises:
            structlog.DropEvent: always; structlog takes it for "done".
        """
        level = _take_level(method, event_dict)
        if level >= self._sink.level:
            event = event_dict.pop("event", "")
            logged_at = _take_moment(event_dict) if "timestamp" in event_dict else None
            name = event_dict.pop("logger", None) or getattr(logger, "name", None)
            exception = _take_exception(event_dict)
            self._sink.emit(
                level,
                event if isinstance(event, str) else repr(event),
                logger=str(name or ""),
                logged_at=logged_at,
                fields=event_dict,
                exception=exception,
            )
        raise structlog.DropEvent


def _take_level(method: str, event_dict: MutableMapping[str, Any]) -> int:
    # `add_log_level` writes the method's name; anything else under this key is the author's own.
    said = event_dict.get("level")
    if isinstance(said, str) and (level := Level.from_name(said)) is not None:
        del event_dict["level"]
        return level
    return Level.from_name(method) or Level.INFO


def _take_moment(event_dict: MutableMapping[str, Any]) -> float | None:
    said = event_dict["timestamp"]
    moment: float | None = None
    if isinstance(said, int | float):
        moment = float(said)
    elif isinstance(said, str):
        try:
            when = dt.datetime.fromisoformat(said)
        except ValueError:
            return None
        moment = when.timestamp()
    if moment is not None:
        del event_dict["timestamp"]
    return moment


def _take_exception(event_dict: MutableMapping[str, Any]) -> ExceptionRecord | None:
    exception = describe_exception(event_dict.pop("exc_info", None))
    rendered = event_dict.get("exception")
    if exception is None and isinstance(rendered, str):
        # The author's processors rendered it; while it is still being handled, its frames are here too.
        del event_dict["exception"]
        current = describe_exception(sys.exc_info())
        if current is not None and current.type.rpartition(".")[2] in rendered:
            return ExceptionRecord(type=current.type, message=current.message, frames=current.frames, text=rendered)
        kind, _, message = rendered.rstrip().rpartition("\n")[2].partition(": ")
        return ExceptionRecord(type=kind, message=message, text=rendered)
    return exception


class _Named:
    """What structlog's loggers wrap when the author configured nothing: a name. Nothing is ever printed by it."""

    def __init__(self, *arguments: object) -> None:
        self.name = str(arguments[0]) if arguments else ""

    def msg(self, *_: object, **__: object) -> None:
        """Do nothing: the event was dropped before."""

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


def capture_structlog(sink: LogSink) -> None:
    """Insert a `SinkProcessor` before the renderer of the author's configuration, or configure structlog if nobody did.

    The list of processors is changed in place: loggers that were bound or used before hold that very list. (One that was
    bound before has no name: structlog's own loggers have none.)
    """
    processor = SinkProcessor(sink)
    processors = structlog.get_config()["processors"]
    if not structlog.is_configured():
        processors[:] = [structlog.contextvars.merge_contextvars, structlog.processors.StackInfoRenderer(), processor]
        _configure(sink, processors)
    elif isinstance(processors, list):
        processors.insert(max(0, len(processors) - 1), processor)
    else:
        structlog.configure(processors=[*processors[:-1], processor, *processors[-1:]])


def _configure(sink: LogSink, processors: list[Any]) -> None:
    # Its methods are replaced whenever the level changes, so that an event below it costs an empty call.
    gated = type("GatedLogger", (structlog.make_filtering_bound_logger(0),), {})

    def gate(level: int) -> None:
        known = max((number for number in (0, *range(10, 60, 10)) if number <= level), default=0)
        for name, method in vars(structlog.make_filtering_bound_logger(known)).items():
            if not name.startswith("__"):
                setattr(gated, name, method)

    sink.add_gate(gate)
    structlog.configure(
        processors=processors,
        wrapper_class=gated,
        logger_factory=_Named,
        cache_logger_on_first_use=True,
    )
