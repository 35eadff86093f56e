"""What plugins print and log, between our two wings and the real go-plugin: raw where raw is meant, records elsewhere."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import Any

import pytest
from interop_proto import LogLine, LogsStub, Name, Prints, StdioStub
from peers import PATIENCE, GoHost, MakeSpec, Step
from watching import Log, until

from supervisor import Level, LogRecord, Stdio, Supervisor
from supervisor.records import LogSource

NO_TEXT = bytes(range(256)) + b"\r\nno newline at the end"


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


class Collected:
    """A writer that keeps everything, and can be waited for."""

    def __init__(self) -> None:
        self.data = b""
        self._changed = threading.Condition()

    def write(self, data: bytes, /) -> None:
        """Keep it."""
        with self._changed:
            self.data += data
            self._changed.notify_all()

    async def arrived(self, size: int) -> None:
        """Wait until there is so much; bounded."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: len(self.data) >= size, PATIENCE)

        assert await asyncio.to_thread(wait), len(self.data)


def records_of(steps: list[Step]) -> list[dict[str, Any]]:
    """Return what the Go host's logger was given of the plugin."""
    return [step["record"] for step in steps if step["step"] == "record"]


# --- printed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["go", "python"])
async def test_writers_get_every_byte(go_plugin: MakeSpec, python_plugin: MakeSpec, peer: str) -> None:
    """`stdio` gives the application what a plugin prints: NUL, 0xff, CRLF, no newline at the end; and no record of it.

    A plugin in Go drops what it has not sent yet when it is asked to end, so that the test waits; ours sends it.
    """
    spec = go_plugin("stdio") if peer == "go" else python_plugin("served_stdio.py")
    stdout, stderr, log = Collected(), Collected(), Log()
    printed = NO_TEXT * 3 + b"o" * 1_000_000
    async with Supervisor([spec], observers=[log], stdio={"peer": Stdio(stdout=stdout, stderr=stderr)}) as supervisor:
        stub = await supervisor.dispense("peer", StdioStub)
        for _ in range(3):
            await stub.print(Prints(stdout=NO_TEXT, stderr=NO_TEXT[::-1]))
        await stub.print(Prints(stdout=b"o" * 1_000_000, stderr=b"e" * 1_000_000))
        if peer == "go":
            await stdout.arrived(len(printed))
            await stderr.arrived(len(printed))

    assert stdout.data == printed
    assert stderr.data == NO_TEXT[::-1] * 3 + b"e" * 1_000_000
    assert not any("ooo" in record.event or "eee" in record.event for record in log.records)


@pytest.mark.parametrize("peer", ["go", "python"])
async def test_without_writers_prints_are_records(go_plugin: MakeSpec, python_plugin: MakeSpec, peer: str) -> None:
    """Whatever has no writer becomes log records, line by line."""
    spec = go_plugin("stdio") if peer == "go" else python_plugin("served_stdio.py")
    log = Log()
    async with Supervisor([spec], observers=[log]) as supervisor:
        stub = await supervisor.dispense("peer", StdioStub)
        await stub.print(Prints(stdout=b"one\ntwo\n", stderr=b"[WARN] three\n"))
        while len(printed := [record for record in log.records if record.event in {"one", "two", "three"}]) < 3:
            await log.heard(len(log.records) + 1)

    assert sorted((record.source, record.level, record.event) for record in printed) == [
        (LogSource.STDERR, Level.WARNING, "three"),
        (LogSource.STDOUT, Level.INFO, "one"),
        (LogSource.STDOUT, Level.INFO, "two"),
    ]


@pytest.mark.parametrize("size", [16, 1_000_000])
def test_a_go_host_gets_every_byte_of_our_plugin(go_host: GoHost, size: int) -> None:
    """`sys.stdout` is SyncStdout and `sys.stderr` is SyncStderr, as os.Stdout and os.Stderr are in a plugin in Go."""
    steps = go_host("stdio", "-size", str(size), plugin="served_stdio.py")

    synced = next(step for step in steps if step["step"] == "stdio")
    assert (synced["stdout_same"], synced["stderr_same"]) == (True, True)
    assert [step for step in steps if not step["ok"]] == []


# --- logged ------------------------------------------------------------------------------------------------------------


def test_a_go_host_understands_our_records(go_host: GoHost) -> None:
    """Levels, logger, keys and time of our plugin's records are what hclog's parser takes; raw lines are what they are."""
    steps = go_host("logs", plugin="served_logs.py")
    records = {record["@message"]: record for record in records_of(steps)}

    for level in ("trace", "debug", "info", "warn", "error"):
        record = records[f"logged at {level}"]
        assert record["@level"] == level
        assert record["@module"] == "peer"
    assert records["logged at warn"]["key"] == "välue"
    assert records["raw text"]["@level"] == "debug"
    assert records["[WARN] raw warning"]["@level"] == "warn"
    assert records["raw on descriptor 1"]["@level"] == "debug"


def test_a_go_host_sees_exceptions_as_errors(go_host: GoHost) -> None:
    """Each exception is one ERROR with its traceback, whoever did not catch it; printed, it would be DEBUG, line by line."""
    steps = go_host("logs", "-panic", plugin="served_logs.py")
    errors = {record["@message"]: record for record in records_of(steps) if record["@level"] == "error"}

    assert "ValueError: nobody catches this" in errors["caught"]["exception"]
    assert "KeyError: 'nobody catches this'" in errors["uncaught KeyError in a thread"]["exception"]
    assert "RuntimeError: nobody catches this" in errors["handler failed"]["exception"]
    (unraisable,) = [record for event, record in errors.items() if event.startswith("Exception ignored in")]
    assert "ValueError: while it was finalized" in unraisable["exception"]
    (warning,) = [record for record in records_of(steps) if "UserWarning: of something" in record["@message"]]
    assert warning["@level"] == "warn"


@pytest.mark.parametrize("arguments", [(), ("text",)], ids=["json", "text"])
async def test_our_host_understands_hclog(go_plugin: MakeSpec, arguments: tuple[str, ...]) -> None:
    """A Go plugin's records keep level, logger, message and keys, whether hclog writes JSON or text."""
    log = Log()
    async with Supervisor([go_plugin("logs", *arguments)], observers=[log]) as supervisor:
        stub = await supervisor.dispense("peer", LogsStub)
        for level in ("trace", "debug", "info", "warn", "error"):
            await stub.log(LogLine(level=level, message=f"logged at {level}", fields={"key": "a välue", "n": "1"}))

    logged = {record.event: record for record in log.records if record.event.startswith("logged at")}
    levels = [Level.TRACE, Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR]
    assert [record.level for record in logged.values()] == levels
    assert {record.logger for record in logged.values()} == {"peer"}
    assert all(dict(record.fields) == {"key": "a välue", "n": "1"} for record in logged.values())
    assert all(record.logged_at is not None for record in logged.values())


async def test_our_host_shows_a_go_panic_as_one_error(go_plugin: MakeSpec) -> None:
    """With all of its goroutines."""
    log = Log()

    def panic() -> LogRecord | None:
        return next((record for record in log.records if record.event.startswith("panic: nobody")), None)

    async with Supervisor([go_plugin("logs")], observers=[log]) as supervisor:
        stub = await supervisor.dispense("peer", LogsStub)
        with pytest.raises(Exception, match="exit code 2"):
            await stub.panic(Name(name="nobody catches this"))
        await until(lambda: supervisor.plugin("peer").last_exit is not None, supervisor)

    found = panic()
    assert found is not None
    assert found.level is Level.ERROR
    assert found.exception is not None
    assert "goroutine" in found.exception.text


# --- before it serves --------------------------------------------------------------------------------------------------


def test_output_before_serve_does_not_break_a_go_hosts_handshake(go_host: GoHost) -> None:
    """With supervisor.sdk imported first, prints, raw writes, children and structlog's default end in the host's log.

    go-plugin takes the first line on stdout for the handshake: `Unrecognized remote plugin message: loading ...`.
    """
    steps = go_host("ping", "-print-logs", plugin="served_early.py", arguments=("prints",))

    assert [step for step in steps if not step["ok"]] == []
    stderr = base64.b64decode(next(step["stderr"] for step in steps if step["step"] == "stderr")).decode()
    for said in ("loading ...", "written raw", "said by structlog's default", "said by a child"):
        assert said in stderr


def test_an_error_before_serve_is_an_error_to_a_go_host(go_host: GoHost) -> None:
    """It is one ERROR with the traceback; as Python prints it, it is six lines at DEBUG."""
    steps = go_host("ping", "-print-logs", plugin="served_early.py", arguments=("fails",))

    assert not steps[0]["ok"]
    (error,) = [record for record in records_of(steps) if record["@message"] == "uncaught LookupError before serve()"]
    assert error["@level"] == "error"
    assert "LookupError: there is no configuration" in error["exception"]
