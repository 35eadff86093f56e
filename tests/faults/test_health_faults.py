"""Rows 62 to 64 of the fault table, and the half of row 28 that is about health: who is taken for dead, and who not."""

from __future__ import annotations

import asyncio
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler
from kv_proto import GetRequest, KvBase, KvStub
from watching import Log, exit_of, freeze, until, until_state

from supervisor import HealthProbe, PluginSpec, State, Supervisor
from supervisor._proto.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from supervisor._proto.grpc.health.v1 import HealthCheckResponseServingStatus as Status
from supervisor.errors import DeadlineExceededError
from supervisor.events import NoticeRaised, ProbeMissed
from supervisor.outcome import ExitReason
from supervisor.services.health import HealthService
from supervisor.testing.scripted import ScriptedProcess, ScriptedRunner

Supervise = Callable[..., Supervisor]
Kv = Callable[..., PluginSpec]

HOST = str(Path(__file__).parent / "fault_host.py")
STRICT = HealthProbe(interval=0.05, timeout=0.1, failures=2)


class Health(HealthService):
    """Answers health checks as the test says: a status, None for never, `absent` for no service at all."""

    def __init__(self, answer: int | None, *, absent: bool = False) -> None:
        super().__init__()
        self.answer = answer
        self.absent = absent

    async def check(self, stream: Any) -> None:
        await stream.recv_message()
        if self.answer is None:
            await asyncio.Event().wait()
        else:
            await stream.send_message(HealthCheckResponse(status=Status(self.answer)))

    def __mapping__(self) -> Mapping[str, Handler]:
        if self.absent:
            return {}
        kind = Cardinality.UNARY_UNARY
        return {"/grpc.health.v1.Health/Check": Handler(self.check, kind, HealthCheckRequest, HealthCheckResponse)}


def supervise_health(log: Log, health: Health, probe: HealthProbe = STRICT) -> Supervisor:
    """Return a supervisor of a scripted plugin with this health."""

    async def script(process: ScriptedProcess) -> int:
        return await process.serve(KvBase(), health=health)

    spec = PluginSpec(name="store", command=("scripted",), health=probe)
    return Supervisor([spec], observers=[log], runner=lambda: ScriptedRunner(script))


# --- row 62 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "health",
    [Health(None, absent=True), Health(Status.SERVICE_UNKNOWN), Health(Status.UNKNOWN)],
    ids=["UNIMPLEMENTED", "SERVICE_UNKNOWN", "UNKNOWN"],
)
async def test_row_62_plugin_without_health_is_judged_by_its_process(log: Log, health: Health) -> None:
    """Who has no health service, or does not know the name, is ready, noticed once and never missed."""
    async with supervise_health(log, health) as supervisor:
        await supervisor.ready()
        assert [notice.message for notice in log.of(NoticeRaised)] == ["no health service: only its process is watched"]
        health.answer, health.absent = None, False  # a probe now would be a miss
        await nothing_happens(supervisor)
        assert log.of(ProbeMissed) == []
        assert supervisor.plugin("store").state is State.READY


async def nothing_happens(supervisor: Supervisor, seconds: float = 0.3) -> None:
    """Let time pass, in which no event may come: by default as long as a few probes take."""
    with supervisor.subscribe() as events:
        try:
            async with asyncio.timeout(seconds):
                event = await anext(events)
        except TimeoutError:
            return
    raise AssertionError(f"unexpected: {event}")


async def test_row_62_not_serving_is_alive_and_unready(log: Log) -> None:
    """NOT_SERVING takes a plugin out of service without ending it, and SERVING brings it back."""
    health = Health(Status.SERVING)
    async with supervise_health(log, health) as supervisor:
        await until_state(State.READY, supervisor)
        health.answer = Status.NOT_SERVING
        await until_state(State.UNREADY, supervisor)
        health.answer = Status.SERVING
        await until_state(State.READY, supervisor)
        assert supervisor.plugin("store").generation == 1
        assert log.of(ProbeMissed) == []


async def test_row_62_not_serving_yet_keeps_a_start_waiting(log: Log) -> None:
    """A plugin that says NOT_SERVING at first is not ready before it says otherwise."""
    health = Health(Status.NOT_SERVING)
    async with supervise_health(log, health) as supervisor:
        await until_state(State.STARTING, supervisor)
        ready = asyncio.create_task(supervisor.ready())
        await asyncio.wait({ready}, timeout=0.3)
        assert not ready.done()
        health.answer = Status.SERVING
        await ready


async def test_row_62_slow_health_is_missed_and_forgiven(log: Log) -> None:
    """An answer that does not come in time is a miss; one that does starts the count again."""
    health = Health(Status.SERVING)
    async with supervise_health(log, health, HealthProbe(interval=0.05, timeout=0.1, failures=3)) as supervisor:
        await supervisor.ready()
        for _ in range(2):
            seen = len(log.of(ProbeMissed))
            health.answer = None
            await until(lambda: len(log.of(ProbeMissed)) >= seen + 1, supervisor)  # noqa: B023  # awaited here
            assert log.of(ProbeMissed)[-1].misses == 1
            health.answer = Status.SERVING
            await nothing_happens(supervisor)  # a probe passes, and is answered
        assert supervisor.plugin("store").generation == 1


async def test_row_62_dead_health_ends_the_instance(log: Log) -> None:
    """As many misses in a row as are allowed end the instance, for the reason `liveness`."""
    health = Health(Status.SERVING)
    async with supervise_health(log, health) as supervisor:
        await supervisor.ready()
        health.answer = None
        report = await exit_of(supervisor)
        assert report.reason is ExitReason.LIVENESS
        assert [miss.misses for miss in log.of(ProbeMissed)] == [1, 2]
        health.answer = Status.SERVING


# --- row 28 ------------------------------------------------------------------------------------------------------------


async def test_row_28_stopped_plugin_is_found_killed_and_replaced(supervise: Supervise, kv: Kv, log: Log) -> None:
    """A plugin under SIGSTOP is found by its health, gets no chance to obey SIGABRT, is killed, and replaced.

    Bar: interval x failures + timeout + 0.5 s until it is found, and 1 s more, the grace of SIGABRT, until it is dead.
    """
    probe = HealthProbe(interval=0.5, timeout=0.45, failures=3)
    bar = probe.interval * probe.failures + probe.timeout + 0.5
    async with supervise(kv(health=probe)) as supervisor:
        stub = await supervisor.dispense(KvStub)
        plugin = supervisor.plugin("store")
        assert plugin.pid is not None
        begun = time.monotonic()
        freeze(plugin.pid)
        report = await exit_of(supervisor)
        assert time.monotonic() - begun <= bar + 1.0
        assert log.of(ProbeMissed)[-1].at - begun <= bar
        assert (report.reason, report.status.signal) == (ExitReason.LIVENESS, signal.SIGKILL)
        assert (await stub.get(GetRequest(key="a"))).value == b""
        assert plugin.generation == 2


# --- row 63 ------------------------------------------------------------------------------------------------------------


async def test_row_63_deadlocked_handler_costs_its_callers_their_deadline(supervise: Supervise, kv: Kv) -> None:
    """A plugin whose handlers hang while its health answers stays up; each call ends with its own deadline.

    That is as far as it goes without a probe of the application's own.
    """
    async with supervise(kv(health=STRICT, call_timeout=0.2)) as supervisor:
        stub = await supervisor.dispense(KvStub)
        for _ in range(3):
            with pytest.raises(DeadlineExceededError):
                await stub.get(GetRequest(key="hang"))
        assert supervisor.plugin("store").generation == 1
        assert supervisor.plugin("store").in_flight == 0


# --- row 64 ------------------------------------------------------------------------------------------------------------


async def test_row_64_blocked_host_kills_nobody(supervise: Supervise, kv: Kv, log: Log) -> None:
    """The application blocks the loop for 3 s, ten times the probe's patience: no plugin is taken for dead.

    Scaled: one block of 3 s and four of 0.4 s stand for ten minutes.
    """
    probe = HealthProbe(interval=0.1, timeout=0.3, failures=1)
    async with supervise(kv(health=probe), kv(health=probe, name="other")) as supervisor:
        await supervisor.ready()
        for pause in (3.0, *[0.4] * 4):
            time.sleep(pause)  # noqa: ASYNC251  # the fault
            await nothing_happens(supervisor)
        assert log.of(ProbeMissed) == []
        assert [plugin.generation for plugin in supervisor.plugins.values()] == [1, 1]


def test_row_64_stopped_host_kills_nobody() -> None:
    """A host under SIGSTOP for 3 s goes on with the same plugin: what it missed was its own doing."""
    host = subprocess.Popen([sys.executable, HOST, "probed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        assert host.stdout.readline() == '{"ready": true}\n'
        for pause in (3.0, 0.5):
            freeze(host.pid)
            assert select.select([host.stdout], [], [], pause)[0] == []  # it says nothing, and time passes
            host.send_signal(signal.SIGCONT)
            assert select.select([host.stdout], [], [], 0.7)[0] == []  # three probes
        assert host.communicate("\n", timeout=20)[0] == '{"generation": 1, "state": "ready"}\n'
    finally:
        host.kill()
        host.wait()
