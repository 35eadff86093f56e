"""Rows 4 to 7, 11 and 16 of the fault table: what may arrive on stdout instead of a handshake, and after it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest
from kv_proto import KvStub
from watching import Log, exit_of, resident, until, until_state

from supervisor import (
    HandshakeError,
    PluginFailedError,
    PluginSpec,
    Restart,
    RestartPolicy,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.errors import HandshakeTimeoutError, VersionMismatchError
from supervisor.events import HandshakeDone, InstanceExited, InstanceLaunched, NoticeRaised
from supervisor.handshake import MAX_LINE, HandshakeReader
from supervisor.outcome import ExitReason
from supervisor.policy import Backoff, RestartIntensity

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

ONCE = RestartPolicy(restart=Restart.TEMPORARY)

QUICK = StopPolicy(drain=0, shutdown=0.05)
"""For plugins that answer no Shutdown."""

FUZZ_SECONDS = 1.5


def lifetime(log: Log) -> float:
    """Return the seconds from the only launch to its end."""
    (launched,), (ended,) = log.of(InstanceLaunched), log.of(InstanceExited)
    return ended.at - launched.at


async def test_row_4_trickle_does_not_stretch_the_deadline(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A handshake that comes byte by byte is cut off by the one deadline for all of it, half a second after at most."""
    spec = evil("trickle", "1|1|unix|/a/rather/long/path|grpc\\n", "0.05", start_timeout=0.5, restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert report.reason is ExitReason.START_TIMEOUT
    assert isinstance(report.error, HandshakeTimeoutError)
    assert 0.49 <= lifetime(log) <= 0.5 + 0.5


async def test_row_5_half_a_line_and_the_end(supervise: Supervise, evil: MakeSpec) -> None:
    """Half a line before stdout is closed is quoted, escaped, as the HandshakeError of a process that is still alive."""
    async with supervise(evil("write", "1|1|un\\x1b", "close", "1", "hang", restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert report.reason is ExitReason.HANDSHAKE
    assert isinstance(report.error, HandshakeError)
    assert "1|1|un\\x1b" in str(report.error)


async def test_row_5_half_a_line_and_the_exit(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """Half a line before the process ends is a failed launch with its status, and quick."""
    async with supervise(evil("write", "1|1|un", "stamp", "exit", "4", restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert (report.reason, report.status.code) == (ExitReason.LAUNCH, 4)
    assert log.moment(State.EXITED) - float(report.stderr[0]) <= 0.5


async def test_row_5_half_a_line_and_silence(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """Half a line and then nothing ends with the start timeout."""
    async with supervise(evil("write", "1|1|un", "hang", start_timeout=0.3, restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert report.reason is ExitReason.START_TIMEOUT
    assert lifetime(log) <= 0.3 + 0.5


GARBAGE = {
    "random": "".join(f"\\x{byte:02x}" for byte in random.Random(1).randbytes(4096)) * 5,
    "nul": "\\x00" * 20_000,
    "invalid utf-8": "\\xff\\xfe\\xc0\\x80" * 5000,
    "utf-16": "1|1|unix|/x|grpc\n".encode("utf-16").decode("latin-1").replace("\0", "\\x00"),
    "byte order mark": "\\xef\\xbb\\xbf1|1|unix|/x|grpc\\n",
    "http": "HTTP/1.1 200 OK\\r\\n" * 1000,
    "noise without end": "starting up ...\\n" * 1100,
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_row_6_garbage_is_refused(supervise: Supervise, evil: MakeSpec, what: str) -> None:
    """Bytes that are no handshake are a typed error long before the start timeout, except two that could still become one."""
    spec = evil("write", GARBAGE[what], "hang", start_timeout=0.7 if what == "utf-16" else 15, restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError)
    assert report.reason is (ExitReason.START_TIMEOUT if what == "utf-16" else ExitReason.HANDSHAKE)
    assert report.uptime < 10
    assert str(report.error).isprintable()
    assert len(str(report.error)) < 1000


async def test_row_6_endless_line_costs_no_memory(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A first line of 100 MB is refused within 100 ms of its first bytes, and never held in memory: best of four tries."""
    spec = evil("stamp", "repeat", "x" * 64, str(100 * 1024 * 1024 // 64), restart=ONCE)
    grown, took = [], []
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
        for _ in range(4):
            before = resident()
            with pytest.raises(Exception, match="stopped"):
                await supervisor.plugin("evil").start()
            grown.append(resident() - before)
            report = log.of(InstanceExited)[-1].report
            took.append(log.of(InstanceExited)[-1].at - float(report.stderr[0]))
    assert report.reason is ExitReason.HANDSHAKE
    assert f"{MAX_LINE} bytes" in str(report.error)
    assert min(grown) <= 1024 * 1024
    assert min(took) <= 0.1


@pytest.mark.parametrize(
    "line", ["\\r\\n\\n  \\n1|1|unix|{dir}/s|grpc \\r\\n", "booting\\nplease wait\\n1|1|unix|{dir}/s|grpc\\n"]
)
async def test_row_6_blanks_and_noise_are_no_obstacle(
    supervise: Supervise, evil: MakeSpec, log: Log, line: str
) -> None:
    """Blank lines, a trailing CR and a few lines of noise before a good handshake do not spoil it; noise is told."""
    spec = evil("listen", "{dir}/s", "write", line, "accept", "greet", "hang", health=None, stop=QUICK)
    async with supervise(spec) as supervisor:
        await supervisor.ready()
    assert len(log.of(HandshakeDone)) == 1
    assert any("2 lines" in notice.message for notice in log.of(NoticeRaised)) is ("booting" in line)


BAD_FIELDS = {
    "1|": None,
    "1|1|unix": None,
    "1|1|unix|/x|grpc||true|": None,
    "1||||||||||": None,
    "2|1|unix|/x|grpc": "core_version",
    "-1|1|unix|/x|grpc": "core_version",
    "99999999999999999999|1|unix|/x|grpc": "core_version",
    "1|2|unix|/x|grpc": "version",
    "1|-1|unix|/x|grpc": "version",
    "1|\uff11|unix|/x|grpc": "version",
    "1| 1_0|unix|/x|grpc": "version",
    "1|" + "9" * 5000 + "|unix|/x|grpc": "version",
    "1|1|udp|/x|grpc": "network",
    "1|1||/x|grpc": "network",
    "1|1|unix||grpc": "address",
    "1|1|tcp|127.0.0.1:99999|grpc": "address",
    "1|1|tcp|127.0.0.1:\uff11|grpc": "address",
    "1|1|unix|/x|netrpc": "protocol",
    "1|1|unix|/x|": "protocol",
    "1|1|unix|/x|grpc|" + "*" * 60: "certificate",
    "1|1|unix|/x|grpc|" + "A" * 61: "certificate",
    "1|1|unix|/x|grpc||maybe": "multiplex",
}


@pytest.mark.parametrize("line", BAD_FIELDS, ids=lambda line: line[:40])
async def test_row_7_wrong_field_is_named(supervise: Supervise, evil: MakeSpec, line: str) -> None:
    """Each wrong field ends the start at once with an error that names the field; what the plugin speaks is not tried again."""
    escaped = "".join(c if c.isascii() else "".join(f"\\x{b:02x}" for b in c.encode()) for c in line)
    async with supervise(evil("print", escaped, "hang", restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
        plugin = supervisor.plugin("evil")
        await until(lambda: plugin.state.at_rest, supervisor)
        assert isinstance(report.error, HandshakeError)
        assert report.error.field == BAD_FIELDS[line]
        unmendable = isinstance(report.error, VersionMismatchError)
        unmendable |= report.error.field in {"protocol", "certificate", "network", "multiplex"}
        assert (plugin.state is State.FAILED) is unmendable
        assert len(str(report.error)) < 1000


async def test_row_7_certificate_of_ten_megabytes(supervise: Supervise, evil: MakeSpec) -> None:
    """A certificate that never ends is an overlong line."""
    spec = evil("write", "1|1|unix|/x|grpc|", "repeat", "A", str(10 * 1024 * 1024), "hang", restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError)
    assert f"{MAX_LINE} bytes" in str(report.error)


def test_row_7_fuzz() -> None:
    """Mutated handshakes in any chunks give a handshake or a HandshakeError, nothing else; 1.5 s instead of 10 M tries."""
    dice = random.Random(7)
    seeds = [*(line.encode() for line in BAD_FIELDS), b"1|1|unix|/run/x|grpc|" + b"QUJD" * 20 + b"|true"]
    until_, tries, accepted = time.monotonic() + FUZZ_SECONDS, 0, 0
    while time.monotonic() < until_:
        line = bytearray(dice.choice(seeds)[:2000])
        for _ in range(dice.randrange(5)):
            at = dice.randrange(len(line) + 1)
            line[at : at + dice.randrange(3)] = dice.choice(
                (b"|", b"\0", b"\r", b"\n", b"\xff", b"1", b"/", b"||||", b"")
            )
        reader = HandshakeReader(versions=(1,))
        cut = dice.randrange(len(line) + 1)
        try:
            accepted += any(reader.feed(bytes(chunk)) is not None for chunk in (line[:cut], line[cut:], b"\n"))
        except HandshakeError as error:
            assert str(error).isprintable()  # noqa: PT017  # what it says of foreign bytes is the point
        tries += 1
    assert tries > 1000
    assert accepted > 10


@pytest.mark.parametrize("reps", [300])
async def test_row_11_handshake_and_immediate_exit(supervise: Supervise, log: Log, reps: int) -> None:
    """A plugin that exits right after its handshake, 300 times instead of 1,000: each life ends once, no waiter is lost."""
    line = "printf '1|1|unix|%s/s|grpc\\n' \"$PLUGIN_UNIX_SOCKET_DIR\"; exit 7"
    policy = RestartPolicy(
        restart=Restart.PERMANENT,
        intensity=RestartIntensity(limit=reps - 1, period=3600),
        backoff=Backoff(initial=0, ceiling=0),
    )
    async with supervise(PluginSpec(name="racer", command=("/bin/sh", "-c", line), restart=policy)) as supervisor:
        waiters = [asyncio.create_task(supervisor.dispense("racer", KvStub)) for _ in range(20)]
        async with asyncio.timeout(60):
            results = await asyncio.gather(*waiters, return_exceptions=True)
        assert all(isinstance(result, PluginFailedError) for result in results)
        plugin = supervisor.plugin("racer")
        assert (plugin.state, plugin.generation, plugin.restarts) == (State.FAILED, reps, reps - 1)
    exits = log.of(InstanceExited)
    assert [e.generation for e in exits] == list(range(1, reps + 1))
    assert {e.report.status.code for e in exits} <= {7, None}
    assert {e.report.reason for e in exits} <= {ExitReason.LAUNCH, ExitReason.HANDSHAKE}


async def test_row_11_exit_while_connecting(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A plugin that accepts the host's connection and exits is one failed launch, five times in a row."""
    policy = RestartPolicy(intensity=RestartIntensity(limit=4), backoff=Backoff(initial=0, ceiling=0))
    spec = evil("listen", "{dir}/s", "handshake", "{dir}/s", "accept", "exit", "5", restart=policy)
    async with supervise(spec) as supervisor:
        await until_state(State.FAILED, supervisor)
    exits = log.of(InstanceExited)
    assert [e.generation for e in exits] == [1, 2, 3, 4, 5]
    assert {e.report.reason for e in exits} <= {ExitReason.LAUNCH, ExitReason.CONNECT}


@pytest.mark.parametrize("way", ["in one piece", "later"])
async def test_row_16_second_handshake_is_ignored(supervise: Supervise, evil: MakeSpec, log: Log, way: str) -> None:
    """A second handshake with another address, right behind the first or later, is a line of output and no more."""
    first, second = "1|1|unix|{dir}/s|grpc", "1|1|tcp|127.0.0.1:1|grpc"
    together = ("print", f"{first}\\n{second}", "accept", "greet")
    apart = ("print", first, "accept", "greet", "print", second)
    spec = evil(
        "listen",
        "{dir}/s",
        *(together if way == "in one piece" else apart),
        "error",
        "done",
        "hang",
        health=None,
        stop=QUICK,
    )
    async with supervise(spec) as supervisor:
        with supervisor.plugin("evil").logs() as records:
            async with asyncio.timeout(10):
                seen = {(await anext(records)).event for _ in range(2)}
        await supervisor.ready()
        assert supervisor.plugin("evil").generation == 1
    assert seen == {second, "done"}
    (done,) = log.of(HandshakeDone)
    assert done.address.endswith("/s")
