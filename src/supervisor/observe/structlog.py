"""Events and plugins' log records as native events of the host's own structlog pipeline.

The host's configuration decides everything: processors, renderers, filters. Nothing here configures structlog.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatchmethod
from types import MappingProxyType
from typing import Any, Final

import structlog

from supervisor.events import (
    Event,
    HandshakeDone,
    InstanceAttached,
    InstanceExited,
    InstanceLaunched,
    LogsDropped,
    NoticeRaised,
    PluginGaveUp,
    ProbeMissed,
    RestartScheduled,
    StateChanged,
    StopRung,
)
from supervisor.levels import Level
from supervisor.lifecycle import State
from supervisor.outcome import ExitReport
from supervisor.records import LogRecord, LogSource

__all__ = ["StructlogObserver"]

_METHODS: Final[Mapping[Level, str]] = MappingProxyType(
    {
        Level.TRACE: "debug",
        Level.DEBUG: "debug",
        Level.INFO: "info",
        Level.WARNING: "warning",
        Level.ERROR: "error",
        Level.CRITICAL: "critical",
    }
)

_TOLD: Final = frozenset({State.READY, State.UNREADY, State.DRAINING, State.STOPPED})

_OURS: Final = frozenset({
    "event", "level", "timestamp", "logger", "exception", "exc_info", "stack", "stack_info", "_record",
    "_from_structlog", "_logger", "_name", "positional_args", "plugin", "generation", "pid", "logged_at", "source",
})  # fmt: skip
"""Keys with a meaning to structlog's processors or to this observer: a plugin's own get the prefix `plugin_`."""


class StructlogObserver:
    """Logs through structlog: `plugin.exited` and the like for events, the plugin's own event name for its records.

    A record arrives with `plugin`, `generation` and `pid` bound, its key/values as they were bound in the plugin, its
    own clock as `logged_at` and its traceback as `exception`, the key that structlog's renderers print.

    Args:
        logger: the logger to use; `structlog.get_logger("supervisor")` when None.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = structlog.get_logger("supervisor") if logger is None else logger

    def on_record(self, plugin: str, generation: int, pid: int, record: LogRecord) -> None:
        """Log a plugin's record at its own level."""
        values: dict[str, object] = {"plugin": plugin, "generation": generation, "pid": pid}
        for key, value in record.fields.items():
            values[f"plugin_{key}" if key in _OURS else key] = value
        if record.logger:
            values["logger"] = record.logger
        if record.logged_at is not None:
            values["logged_at"] = record.logged_at
        if record.source is not LogSource.STREAM:
            values["source"] = record.source.value
        if record.truncated:
            values["truncated"] = True
        if record.exception is not None:
            values["exception"] = record.exception.text or f"{record.exception.type}: {record.exception.message}"
        getattr(self._logger, _METHODS[record.level])(record.event, **values)

    def on_event(self, event: Event) -> None:
        """Log an event of the supervisor."""
        self._log(event)

    def _tell(self, level: str, name: str, event: Event, **values: object) -> None:
        getattr(self._logger, level)(name, plugin=event.plugin, generation=event.generation, **values)

    @singledispatchmethod
    def _log(self, event: Event) -> None:
        """Kinds without a line of their own are not logged."""

    @_log.register
    def _(self, event: InstanceLaunched) -> None:
        self._tell("info", "plugin.launched", event, pid=event.pid)

    @_log.register
    def _(self, event: InstanceAttached) -> None:
        self._tell("info", "plugin.attached", event, pid=event.pid)

    @_log.register
    def _(self, event: HandshakeDone) -> None:
        self._tell("debug", "plugin.handshake", event, version=event.version, address=event.address)

    @_log.register
    def _(self, event: StateChanged) -> None:
        if event.new in _TOLD:  # the other states are told by the event that led there
            self._tell("info", f"plugin.{event.new}", event, was=event.old.value)

    @_log.register
    def _(self, event: ProbeMissed) -> None:
        self._tell(
            "warning", "plugin.probe_missed", event, misses=event.misses, allowed=event.allowed, error=event.error
        )

    @_log.register
    def _(self, event: StopRung) -> None:
        self._tell("debug", "plugin.stop", event, rung=event.rung)

    @_log.register
    def _(self, event: InstanceExited) -> None:
        self._tell("error" if event.report.failed else "info", "plugin.exited", event, **_describe(event.report))

    @_log.register
    def _(self, event: RestartScheduled) -> None:
        if event.ordered:
            self._tell("info", "plugin.restart", event, ordered=True)
        else:
            self._tell("warning", "plugin.restart", event, delay=round(event.delay, 3), attempt=event.attempt)

    @_log.register
    def _(self, event: PluginGaveUp) -> None:
        self._tell("error", "plugin.gave_up", event, cause=event.cause)

    @_log.register
    def _(self, event: LogsDropped) -> None:
        self._tell(
            "warning", "plugin.logs_dropped", event, source=event.source.value, count=event.count, total=event.total
        )

    @_log.register
    def _(self, event: NoticeRaised) -> None:
        self._tell("warning", "plugin.notice", event, message=event.message)


def _describe(report: ExitReport) -> dict[str, object]:
    described: dict[str, object] = {
        "reason": report.reason.value,
        "status": str(report.status),
        "pid": report.pid,
        "uptime": round(report.uptime, 3),
    }
    if report.failed:
        described["error"] = str(report.error) if report.error is not None else None
        described["stderr"] = list(report.stderr[-5:])
    return {key: value for key, value in described.items() if value is not None}
