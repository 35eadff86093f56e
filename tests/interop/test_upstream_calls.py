"""go-plugin's own tests of calls and connections, mirrored: its programs with our host, our plugins with its host."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from betterproto.lib.google.protobuf import Empty
from grpclib import GRPCError, Status
from interop_proto import CountRequest, Failure, Item, StreamingStub
from kv_proto import GetRequest, KvStub, PutRequest
from peers import GoHost, MakeSpec, Step
from watching import Log, exit_of, freeze, until_state

from supervisor import (
    DeadlineExceededError,
    HandshakeError,
    HealthProbe,
    Limits,
    MessageTooLargeError,
    PluginCrashedError,
    State,
    Supervisor,
)
from supervisor.events import NoticeRaised, ProbeMissed

modes = pytest.mark.parametrize("multiplex", [False, True], ids=["default", "mux"])


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


def multiplexed(multiplex: bool) -> tuple[str, ...]:
    """Return the Go host's flag."""
    return ("-mux",) if multiplex else ()


def failed(steps: list[Step]) -> list[Step]:
    """Return the steps that failed."""
    return [step for step in steps if not step["ok"]]


# --- calls ---------------------------------------------------------------------------------------------------------


@modes
async def test_grpc_app(go_plugin: MakeSpec, multiplex: bool) -> None:
    """TestGRPC_App, TestClient_grpc: a call is answered, and one that fails has the plugin's status and text."""
    async with Supervisor([go_plugin("kv", multiplex=multiplex)], observers=[]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=b"value"))
        assert (await kv.get(GetRequest(key="key"))).value == b"value"
        with pytest.raises(GRPCError, match='no key "missing"') as caught:
            await kv.get(GetRequest(key="missing"))

    assert caught.value.status is Status.NOT_FOUND


@modes
def test_grpc_app_of_a_go_host(go_host: GoHost, multiplex: bool) -> None:
    """TestGRPC_App, TestClient_grpc: the same of a Go host and our plugin."""
    steps = go_host("kv", *multiplexed(multiplex), plugin="served_kv.py")

    assert failed(steps) == []
    assert next(step["text"] for step in steps if step["step"] == "get missing") == "missing"


@modes
async def test_grpc_stream(go_plugin: MakeSpec, multiplex: bool) -> None:
    """TestGRPCC_Stream: calls of every shape, large ones among them; statuses, deadlines and cancellation arrive."""

    async def items() -> AsyncIterator[Item]:
        for number in range(20):
            yield Item(number=number, payload=bytes(50_000))

    text = "ünïcode, 100% and a\nnewline"
    async with Supervisor([go_plugin("streaming", multiplex=multiplex)], observers=[]) as supervisor:
        streaming = await supervisor.dispense("peer", StreamingStub)
        counted = [item async for item in streaming.count(CountRequest(count=20, size=50_000))]
        total = await streaming.sum(items())
        echoed = [item.number async for item in streaming.echo(items())]
        with pytest.raises(GRPCError) as caught:
            await streaming.fail(Failure(code=Status.DATA_LOSS.value, message=text))
        with pytest.raises(DeadlineExceededError):
            await streaming.hang(Item(), timeout=0.2)
        hanging = asyncio.ensure_future(streaming.hang(Item()))
        assert (await streaming.hung(Empty())).number <= 1
        hanging.cancel()
        await asyncio.wait([hanging])

    assert [item.number for item in counted] == echoed == list(range(20))
    assert {len(item.payload) for item in counted} == {50_000}
    assert (total.number, len(total.payload)) == (190, 1_000_000)
    assert (caught.value.status, caught.value.message) == (Status.DATA_LOSS, text)


@modes
def test_grpc_stream_of_a_go_host(go_host: GoHost, multiplex: bool) -> None:
    """TestGRPCC_Stream: the same of a Go host and our plugin, whose handler hears of the cancellation."""
    flags = ("-calls", "20", "-size", "50000", *multiplexed(multiplex))
    steps = go_host("streaming", *flags, plugin="served_streaming.py")

    assert failed(steps) == []
    said = {step["step"]: step for step in steps}
    assert (said["count"]["received"], said["count"]["bytes"]) == (20, 1_000_000)
    assert (said["sum"]["number"], said["sum"]["bytes"]) == (190, 1_000_000)
    assert said["echo"]["echoed"] == 20
    assert said["hung"]["number"] == 1
    assert said["unknown method"]["text"] == "unknown method /interop.Streaming/Nothing"


async def test_dial_options(go_plugin: MakeSpec) -> None:
    """GRPCDialOptions in our words: limits on messages and a deadline for every call are fields of the specification."""
    limits = Limits(message_size=100_000)
    spec = go_plugin("streaming", limits=limits, call_timeout=0.2)
    async with Supervisor([spec], observers=[]) as supervisor:
        streaming = await supervisor.dispense("peer", StreamingStub)
        with pytest.raises(DeadlineExceededError):
            await streaming.hang(Item())
        with pytest.raises(MessageTooLargeError):
            _ = [item async for item in streaming.count(CountRequest(count=1, size=200_000), timeout=10)]
        assert len([item async for item in streaming.count(CountRequest(count=9, size=50_000), timeout=10)]) == 9


# --- ping ----------------------------------------------------------------------------------------------------------


@modes
async def test_grpc_ping(go_plugin: MakeSpec, multiplex: bool) -> None:
    """TestGRPC_Ping, TestClient_ping: a Go plugin answers health checks; one that is stopped misses them and is ended."""
    log = Log()
    probe = HealthProbe(interval=0.05, timeout=0.5, failures=2)
    async with Supervisor([go_plugin("kv", multiplex=multiplex, health=probe)], observers=[log]) as supervisor:
        await supervisor.ready()
        assert [event.message for event in log.of(NoticeRaised)] == []
        freeze(supervisor.plugin("peer").pid or 0)
        report = await exit_of(supervisor)

    assert report.reason == "liveness"
    assert [event.misses for event in log.of(ProbeMissed)] == [1, 2]


@modes
def test_grpc_ping_of_a_go_host(go_host: GoHost, multiplex: bool) -> None:
    """TestGRPC_Ping: a Go host pings our plugin; health is there by name, for all, for nobody, and to be watched."""
    steps = go_host("ping", *multiplexed(multiplex), plugin="served_kv.py")

    assert failed(steps) == []
    assert [(step["service"], step["status"]) for step in steps if step["step"] == "health"] == [
        ("plugin", "SERVING"),
        ("", "SERVING"),
    ]
    assert [(step["step"], step.get("text", step.get("status"))) for step in steps[5:7]] == [
        ("health of nobody", "unknown service"),
        ("watch", "SERVING"),
    ]


async def test_plugin_without_health(go_plugin: MakeSpec) -> None:
    """A plugin that has no health service is called all the same, and the host says what it cannot see."""
    log = Log()
    async with Supervisor([go_plugin("evil", "without", "Health")], observers=[log]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=b"value"))

    assert [event.message for event in log.of(NoticeRaised)] == ["no health service: only its process is watched"]


# --- crashes and signals -------------------------------------------------------------------------------------------


async def test_client_grpc_server_crash(go_plugin: MakeSpec) -> None:
    """TestClient_grpc_servercrash: a call under way when the plugin is killed fails, by its death."""
    async with Supervisor([go_plugin("streaming")], observers=[]) as supervisor:
        streaming = await supervisor.dispense("peer", StreamingStub)
        hanging = asyncio.ensure_future(streaming.hang(Item()))
        await streaming.hung(Empty())
        os.kill(supervisor.plugin("peer").pid or 0, signal.SIGKILL)
        with pytest.raises(PluginCrashedError, match="killed by SIGKILL") as caught:
            await hanging
        await until_state(State.STOPPED, supervisor)

    assert caught.value.maybe_executed


def test_server_crash_under_a_go_host(go_host: GoHost) -> None:
    """TestClient_grpc_servercrash: a Go host sees at once that our plugin was killed."""
    steps = go_host("kill", "-in-flight", "-signal", "KILL", plugin="served_streaming.py")

    said = {step["step"]: step for step in steps}
    assert said["signal"]["exited"]
    assert "Unavailable" in said["call in flight"]["text"]
    assert said["kill"]["exit"] == "signal: killed"


def test_interrupt_of_our_plugin(go_host: GoHost) -> None:
    """A plugin ignores SIGINT, which a terminal sends to the host's whole group: the host decides."""
    steps = go_host("kill", "-signal", "INT", plugin="served_kv.py")

    said = {step["step"]: step for step in steps}
    assert not said["signal"]["exited"]
    assert (said["kill"]["graceful"], said["kill"]["alive"], said["kill"]["socket_left"]) == (True, False, False)


async def test_interrupt_of_a_go_plugin(go_plugin: MakeSpec) -> None:
    """A Go plugin ignores SIGINT; under our host it would not even get the terminal's."""
    async with Supervisor([go_plugin("kv")], observers=[]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        pid = supervisor.plugin("peer").pid or 0
        assert os.getpgid(pid) != os.getpgrp()
        os.kill(pid, signal.SIGINT)
        await kv.put(PutRequest(key="key", value=b"value"))


def test_shutdown_with_a_call_in_flight(go_host: GoHost) -> None:
    """A call that hangs is cancelled and does not keep our plugin from ending within the two seconds of a Go host."""
    steps = go_host("kill", "-in-flight", plugin="served_streaming.py")

    said = {step["step"]: step for step in steps}
    assert (said["kill"]["graceful"], said["kill"]["alive"]) == (True, False)
    assert said["call in flight"]["ok"]


@pytest.mark.parametrize("service", ["GRPCController", "GRPCStdio"])
async def test_plugin_without_a_service(go_plugin: MakeSpec, service: str) -> None:
    """A plugin that lacks one of go-plugin's own services is called, and stopped, all the same."""
    async with Supervisor([go_plugin("evil", "without", service)], observers=[]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=b"value"))


async def test_leaving_ends_all(go_plugin: MakeSpec) -> None:
    """CleanupClients in our words: leaving the supervisor ends every plugin, side by side."""
    specs = [go_plugin("kv", name=name) for name in ("one", "two", "three")]
    async with Supervisor(specs, observers=[]) as supervisor:
        await supervisor.ready()
        pids = [plugin.pid for plugin in supervisor.plugins.values()]

    assert len(set(pids)) == 3  # and the fixture sees that none is left


# --- multiplexing that is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "hint"),
    [("", "update the github.com/hashicorp/go-plugin dependency"), ("|false", "leave `multiplex` off")],
)
async def test_client_request_grpc_multiplexing_unsupported(go_plugin: MakeSpec, ending: str, hint: str) -> None:
    """TestClient_RequestGRPCMultiplexing_UnsupportedByPlugin: an old plugin, and one that says no."""
    spec = go_plugin("evil", "line", f"1|1|tcp|127.0.0.1:1234|grpc|{ending}", multiplex=True)
    async with Supervisor([spec], observers=[]) as supervisor:
        report = await exit_of(supervisor)

    assert isinstance(report.error, HandshakeError)
    assert report.error.field == "multiplex"
    assert "client requested gRPC broker multiplexing but plugin does not support the feature" in str(report.error)
    assert hint in str(report.error)


# --- sockets and runners -------------------------------------------------------------------------------------------


def test_unix_socket_dir(go_host: GoHost) -> None:
    """TestUnixSocketDir: our plugin puts its socket where a RunnerFunc of a Go host wants it."""
    steps = go_host("kv", "-runner", plugin="served_kv.py")

    assert failed(steps) == []
    assert Path(steps[0]["address"]).parent.name.startswith("plugin-dir")
    assert not Path(steps[0]["address"]).parent.exists()


def test_port_range_of_a_go_host(go_host: GoHost) -> None:
    """Our plugin takes the first free port of the range that the Go host names."""
    steps = go_host("kv", "-tcp", plugin="served_kv.py")

    assert failed(steps) == []
    assert 10000 <= int(steps[0]["address"].rpartition(":")[2]) <= 25000
