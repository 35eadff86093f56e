"""Events and records in the host's own structlog pipeline."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from supervisor.events import InstanceExited, InstanceLaunched, LogsDropped, StateChanged
from supervisor.levels import Level
from supervisor.lifecycle import State
from supervisor.observe.structlog import StructlogObserver
from supervisor.outcome import ExitReason, ExitReport, ExitStatus
from supervisor.records import ExceptionRecord, LogRecord, LogSource


def logged(*records: LogRecord, processors: Any = ()) -> list[dict[str, Any]]:
    """Pass records through an observer over a logger with `processors` and return what comes out."""
    out: list[dict[str, Any]] = []

    def keep(_: Any, method: str, event: Any) -> Any:
        out.append({**event, "method": method})
        raise structlog.DropEvent

    observer = StructlogObserver(structlog.wrap_logger(structlog.PrintLogger(), processors=[*processors, keep]))
    for record in records:
        observer.on_record("store", 3, 4711, record)
    return out


def test_record_keeps_its_key_values_and_gets_its_origin() -> None:
    """A record is logged at its level with plugin, generation and pid bound and its own key/values with their types."""
    record = LogRecord(
        level=Level.WARNING,
        event="disk nearly full",
        logger="kv.disk",
        logged_at=12.5,
        fields={"free": 3, "paths": ["/a", "/b"], "ratio": 0.5, "ok": False},
        source=LogSource.STREAM,
    )
    assert logged(record) == [
        {
            "event": "disk nearly full",
            "method": "warning",
            "plugin": "store",
            "generation": 3,
            "pid": 4711,
            "logger": "kv.disk",
            "logged_at": 12.5,
            "free": 3,
            "paths": ["/a", "/b"],
            "ratio": 0.5,
            "ok": False,
        }
    ]


@pytest.mark.parametrize(
    ("level", "method"),
    [
        (Level.TRACE, "debug"),
        (Level.DEBUG, "debug"),
        (Level.INFO, "info"),
        (Level.WARNING, "warning"),
        (Level.ERROR, "error"),
        (Level.CRITICAL, "critical"),
    ],
)
def test_level_becomes_the_method(level: Level, method: str) -> None:
    """Each level is logged through the method of the same meaning, so that the host's filters apply."""
    assert logged(LogRecord(level=level, event="x"))[0]["method"] == method


@pytest.mark.parametrize("key", ["event", "level", "timestamp", "plugin", "pid", "exc_info", "_record", "logger"])
def test_plugin_cannot_forge_the_hosts_keys(key: str) -> None:
    """A plugin's field with a name that means something to the host arrives under a prefix."""
    (event,) = logged(LogRecord(level=Level.INFO, event="true", fields={key: "forged"}))
    assert event[f"plugin_{key}"] == "forged"
    assert event.get(key) != "forged"


def test_host_filters_work_on_records() -> None:
    """A processor of the host that drops events drops a plugin's record as any other."""

    def drop_debug(_: Any, method: str, event: Any) -> Any:
        if method == "debug":
            raise structlog.DropEvent
        return event

    records = [LogRecord(level=level, event=level.name) for level in (Level.DEBUG, Level.INFO)]
    assert [event["event"] for event in logged(*records, processors=[drop_debug])] == ["INFO"]


def test_exception_is_rendered_by_the_hosts_renderer() -> None:
    """A record's traceback is under the key that structlog's renderers print."""
    exception = ExceptionRecord(type="ValueError", message="no", text="Traceback ...\nValueError: no")
    (event,) = logged(LogRecord(level=Level.ERROR, event="failed", exception=exception))
    assert event["exception"] == "Traceback ...\nValueError: no"
    rendered = structlog.dev.ConsoleRenderer(colors=False)(None, "error", dict(event))
    assert "ValueError: no" in rendered


def test_record_from_stderr_says_so() -> None:
    """A record that did not come over the log stream names its source, and that it was cut."""
    (event,) = logged(LogRecord(level=Level.INFO, event="x", source=LogSource.STDERR, truncated=True))
    assert (event["source"], event["truncated"]) == ("stderr", True)


def test_events_are_logged_with_what_happened() -> None:
    """An exit is an error with reason, status and last lines; a launch and a ready plugin are told once each."""
    with structlog.testing.capture_logs() as logs:
        observer = StructlogObserver()
        at = {"plugin": "store", "generation": 1, "at": 0.0}
        observer.on_event(InstanceLaunched(**at, pid=4711))  # type: ignore[arg-type]  # keywords of mixed types
        observer.on_event(StateChanged(**at, old=State.STARTING, new=State.READY))  # type: ignore[arg-type]
        observer.on_event(StateChanged(**at, old=State.READY, new=State.EXITED))  # type: ignore[arg-type]
        report = ExitReport(
            reason=ExitReason.SIGNALED, status=ExitStatus(signal=11), generation=1, pid=4711, stderr=("bang",)
        )
        observer.on_event(InstanceExited(**at, report=report))  # type: ignore[arg-type]
        observer.on_event(LogsDropped(**at, source=LogSource.STDERR, count=3, total=5))  # type: ignore[arg-type]
    assert [log["event"] for log in logs] == ["plugin.launched", "plugin.ready", "plugin.exited", "plugin.logs_dropped"]
    assert logs[2]["log_level"] == "error"
    assert (logs[2]["reason"], logs[2]["status"], logs[2]["stderr"]) == ("signaled", "killed by SIGSEGV", ["bang"])
