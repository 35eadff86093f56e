"""Rows 65 and 72 to 75 of the fault table: what the host itself runs out of, raises, forgets or mixes up."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from grpclib import GRPCError
from kv_proto import GetRequest, KvStub, PutRequest
from watching import Log, until_state

from supervisor import PluginSpec, RestartIntensity, RestartPolicy, State, Supervisor, SupervisorError
from supervisor.events import Event, StateChanged

Supervise = Callable[..., Supervisor]
Kv = Callable[..., PluginSpec]

HOST = str(Path(__file__).parent / "fault_host.py")

# --- row 65 ------------------------------------------------------------------------------------------------------------


def test_row_65_out_of_descriptors_at_any_point_of_a_start() -> None:
    """With 0 to 14 descriptors to spare a start fails typed or succeeds, a later one succeeds, and none leaks."""
    host = subprocess.run([sys.executable, HOST, "headroom"], capture_output=True, timeout=60, check=False)
    assert host.stderr == b""
    told = [json.loads(line) for line in host.stdout.splitlines()]
    assert [each["headroom"] for each in told] == list(range(15))
    assert [each["leaked"] for each in told] == [0] * 15
    assert {each["error"] for each in told} <= {"LaunchError", "ConnectError", None}
    assert told[0]["error"] == "LaunchError"
    assert "Too many open files" in told[0]["text"]
    assert told[-1]["error"] is None
    assert host.returncode == 0


# --- row 72 ------------------------------------------------------------------------------------------------------------


class Raising:
    """An observer that raises a group of unlike errors, in `on_event` or in `on_record`."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.raised = 0

    def _raise(self, where: str) -> None:
        if where == self.where:
            self.raised += 1
            raise ExceptionGroup("both", [ValueError("one"), OSError("another")])

    def on_event(self, event: Event) -> None:
        self._raise("event")

    def on_record(self, *args: object) -> None:
        self._raise("record")


@pytest.mark.parametrize("where", ["event", "record"])
async def test_row_72_raising_observer_is_dropped_alone(supervise: Supervise, kv: Kv, log: Log, where: str) -> None:
    """An observer that raises is told nothing more and the loop is told why; plugins and other observers go on."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    raising = Raising(where)
    async with supervise(kv(), observers=[raising, log]) as supervisor:
        stub = await supervisor.dispense(KvStub)
        with supervisor.plugin("store").logs() as logs:
            for _ in range(2):
                with pytest.raises(GRPCError):
                    await stub.get(GetRequest(key="raise"))  # which the plugin logs
                await anext(logs)
        os.kill(supervisor.plugin("store").pid or 0, signal.SIGKILL)
        await until_state(State.EXITED, supervisor)
        assert (await stub.get(GetRequest(key="a"))).value == b""
    assert raising.raised == 1
    assert len(told) == 1
    assert log.of(StateChanged)[-1].new is State.STOPPED


async def test_row_72_raising_stub_raises_to_its_caller_alone(supervise: Supervise, kv: Kv) -> None:
    """What a stub's constructor raises is the caller's; the plugin is as good as before."""

    def broken(channel: Any) -> None:
        raise ZeroDivisionError

    async with supervise(kv()) as supervisor:
        with pytest.raises(ZeroDivisionError):
            await supervisor.dispense("store", broken)
        stub = await supervisor.dispense(KvStub)
        assert (await stub.get(GetRequest(key="a"))).value == b""
        assert supervisor.plugin("store").generation == 1


# --- row 73 ------------------------------------------------------------------------------------------------------------


async def test_row_73_plugin_that_fails_for_good_leaves_the_application_running(supervise: Supervise, kv: Kv) -> None:
    """Inside a lifespan a plugin dies until it is given up on: readiness flips, other routes answer, leaving is quiet."""
    policy = RestartPolicy(intensity=RestartIntensity(limit=1, period=60))
    supervisor = supervise(kv(restart=policy), kv(name="other"))
    app = FastAPI(lifespan=supervisor.lifespan)

    @app.get("/livez")
    async def livez() -> str:
        return "ok"

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str]:
        states = {name: plugin.state.value for name, plugin in supervisor.plugins.items()}
        response.status_code = 200 if set(states.values()) == {"ready"} else 503
        return states

    async with app.router.lifespan_context(app):
        await supervisor.ready()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            assert (await client.get("/readyz")).status_code == 200
            for _ in range(2):
                plugin = supervisor.plugin("store")
                await plugin.ready()
                os.kill(plugin.pid or 0, signal.SIGKILL)
                await until_state(State.EXITED, supervisor, "store")
            await until_state(State.FAILED, supervisor, "store")
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()) == (503, {"store": "failed", "other": "ready"})
            assert (await client.get("/livez")).json() == "ok"
            other = await supervisor.dispense("other", KvStub)
            assert (await other.get(GetRequest(key="a"))).value == b""
            await supervisor.plugin("store").restart()
            assert (await client.get("/readyz")).status_code == 200


# --- row 74 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unclosed", "collected"])
def test_row_74_supervisor_that_nobody_closed_leaves_no_process(how: str) -> None:
    """The loop is closed under a running supervisor, and the interpreter ends: the plugin ends with it, within 1 s."""
    host = subprocess.Popen(
        [sys.executable, "-W", "always", HOST, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    pidfd = os.pidfd_open(json.loads(host.stdout.readline())["pid"])
    try:
        _, errors = host.communicate(timeout=20)
        assert select.select([pidfd], [], [], 1.0)[0] == [pidfd]
    finally:
        os.close(pidfd)
        host.kill()
    assert host.returncode == 0
    assert "ResourceWarning: unclosed <Supervisor of <Plugin 'store' ready" in errors


# --- row 75 ------------------------------------------------------------------------------------------------------------


async def test_row_75_use_from_another_loop_is_refused(supervise: Supervise, kv: Kv) -> None:
    """A call, a dispense or an order from another thread's loop is an error that says so, and does no harm."""
    async with supervise(kv()) as supervisor:
        stub = await supervisor.dispense(KvStub)
        plugin = supervisor.plugin("store")
        errors: list[BaseException] = []

        async def from_there() -> None:
            for use in (
                lambda: stub.get(GetRequest(key="a")),
                lambda: stub.put(PutRequest(key="a", value=b"b")),
                lambda: supervisor.dispense(KvStub),
                plugin.stop,
                plugin.restart,
                plugin.ready,
                supervisor.ready,
                supervisor.aclose,
            ):
                try:
                    async with asyncio.timeout(2):
                        await use()
                except Exception as error:  # noqa: BLE001  # looked at below
                    errors.append(error)

        thread = threading.Thread(target=lambda: asyncio.run(from_there()))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(errors) == 8
        for error in errors:
            assert isinstance(error, SupervisorError), error
            assert "another event loop" in str(error)
        assert (await stub.get(GetRequest(key="a"))).value == b""
        assert plugin.generation == 1


async def test_row_75_entered_again_on_a_second_loop(kv: Kv) -> None:
    """A supervisor that was left may be entered again, on another loop too."""
    supervisor = Supervisor([kv()], observers=())

    async def use() -> bytes:
        async with supervisor:
            return (await (await supervisor.dispense(KvStub)).get(GetRequest(key="a"))).value

    assert await use() == b""
    assert await asyncio.to_thread(lambda: asyncio.run(use())) == b""
