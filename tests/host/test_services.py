"""Services beside the main ones: what a host offers its plugins, and what either side passes in a call; real plugins."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import errands
import pytest
from errands import Greeter, GreeterStub, run_errand
from grpclib.exceptions import GRPCError
from watching import exit_of

from supervisor import (
    BrokerError,
    ByteSink,
    ByteSource,
    ConfigurationError,
    Limits,
    PluginSpec,
    PluginStoppedError,
    Supervisor,
    current_caller,
)
from supervisor.errors import ConnectionLostError
from supervisor.outcome import ExitReason
from supervisor.policy import Restart, RestartPolicy
from supervisor.testing.scripted import ScriptedProcess

PROGRAM = Path(errands.__file__).with_name("errand_plugin.py")


def specify(name: str = "errands", **fields: Any) -> PluginSpec:
    """Return the specification of a plugin that does errands."""
    env = {"PYTHONPATH": os.pathsep.join(sys.path), **fields.pop("env", {})}
    return PluginSpec(name=name, command=(sys.executable, str(PROGRAM)), env=env, **fields)


@pytest.fixture(params=["plain", "multiplexed", "plain mTLS", "multiplexed mTLS"])
def spec(request: pytest.FixtureRequest) -> PluginSpec:
    """Return the specification of a plugin, for each way in which its connections can be made."""
    return specify(multiplex="multiplexed" in request.param, auto_mtls="mTLS" in request.param)


def supervise(*specs: PluginSpec, **options: Any) -> Supervisor:
    """Supervise plugins."""
    return Supervisor(specs, observers=[], **options)


async def channel_of(supervisor: Supervisor, name: str = "errands") -> Any:
    """Return what stubs take."""
    return await supervisor.dispense(name, lambda channel: channel)


# --- what the host offers -----------------------------------------------------------------------------------------


async def test_plugin_calls_the_hosts_service(spec: PluginSpec) -> None:
    """`await current().host(Stub)` leads to the servicer in this process, which knows who calls."""
    callers = []

    def greet(name: str) -> str:
        callers.append(current_caller())
        return f"{name} for {os.getpid()}"

    async with supervise(spec, services=[Greeter(greet)]) as supervisor:
        channel = await channel_of(supervisor)
        said = [await run_errand(channel, "Host", number) for number in (1, 2)]

    assert said == [f"{number} for {os.getpid()}" for number in (1, 2)]
    assert [(caller.plugin, caller.generation) for caller in callers] == [("errands", 1)] * 2


async def test_plugin_of_a_host_without_services_is_told_so() -> None:
    """Closed unless the application opens it; the plugin's code hears it at once."""
    async with supervise(specify()) as supervisor:
        log = supervisor.plugin("errands").logs()
        with pytest.raises(GRPCError):
            await run_errand(await channel_of(supervisor), "Host")
        async with asyncio.timeout(10):
            errors = [record.exception async for record in _until_error(log)]

    assert errors[-1] is not None
    assert "the host offers no services" in errors[-1].message


async def _until_error(log: Any) -> AsyncIterator[Any]:
    async for record in log:
        yield record
        if record.exception is not None:
            log.close()
            return


async def test_services_go_to_the_plugins_that_are_named() -> None:
    """By name, each plugin has its own, and those that are not named have none."""
    services = {"one": [Greeter(lambda _: "of one")], "two": [Greeter(lambda _: "of two")]}
    async with supervise(specify("one"), specify("two"), specify("three"), services=services) as supervisor:
        said = [await run_errand(await channel_of(supervisor, name), "Host") for name in ("one", "two")]
        with pytest.raises(GRPCError):
            await run_errand(await channel_of(supervisor, "three"), "Host")

    assert said == ["of one", "of two"]


def test_services_for_nobody_are_refused() -> None:
    """A name that is misspelt would leave its plugin without its services."""
    with pytest.raises(ConfigurationError, match="'stor', which no plugin is named"):
        supervise(specify(), services={"stor": [Greeter()]})


@pytest.mark.parametrize("services", [[object()], {"errands": [object()]}, [Greeter]])
async def test_what_is_no_servicer_is_refused(services: Any) -> None:
    """On entering, and not as a defect when the first plugin is up."""
    with pytest.raises(ConfigurationError, match="is not a servicer"):
        async with supervise(specify("errands"), services=services):
            pass


async def test_each_life_can_call_the_host(spec: PluginSpec) -> None:
    """The next life gets a connection of its own, and the service knows that it is another."""
    generations: list[int] = []

    def greet(_: str) -> str:
        generations.append(current_caller().generation)
        return ""

    async with supervise(spec, services=[Greeter(greet)]) as supervisor:
        channel = await channel_of(supervisor)
        await run_errand(channel, "Host")
        os.kill(supervisor.plugin("errands").pid or 0, signal.SIGKILL)
        await exit_of(supervisor)
        await run_errand(channel, "Host")

    assert generations == [1, 2]


async def test_call_to_the_host_does_not_hold_up_a_stop(spec: PluginSpec) -> None:
    """A service that never answers is left by the plugin's end; its handler is cancelled."""
    called, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(name: str) -> str:
        called.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        return name

    async with supervise(spec, services=[Greeter(hang)]) as supervisor:
        calling = asyncio.ensure_future(run_errand(await channel_of(supervisor), "Host"))
        await called.wait()
        supervisor.plugin("errands")._keeper.instance.end(ExitReason.SIGNALED)  # type: ignore[union-attr]
        with pytest.raises(Exception, match="ended"):
            await calling
        await asyncio.wait_for(cancelled.wait(), 5)


# --- what is passed in a call -------------------------------------------------------------------------------------


async def test_implementation_is_passed_to_the_plugin(spec: PluginSpec) -> None:
    """go-plugin's "complex argument": the plugin calls what it was given an id of; afterwards the id leads nowhere."""
    async with supervise(spec) as supervisor:
        plugin, channel = supervisor.plugin("errands"), await channel_of(supervisor)
        async with plugin.offer(Greeter(lambda name: f"{name} by {current_caller().plugin}")) as service_id:
            said = await run_errand(channel, "Greet", service_id)
        with pytest.raises(GRPCError):
            await run_errand(channel, "Greet", service_id)

    assert said == "plugin by errands"


async def test_implementation_is_passed_to_the_host(spec: PluginSpec) -> None:
    """The host calls what the plugin answered an id of, as often as it likes."""
    async with supervise(spec) as supervisor:
        plugin, channel = supervisor.plugin("errands"), await channel_of(supervisor)
        ids = [int(await run_errand(channel, "Lend", number)) for number in (7, 8)]
        async with plugin.dial(ids[1], GreeterStub) as greeter:
            said = [await greeter.greet("a")]
        greeter = await plugin.dial(ids[0], GreeterStub)
        said += [await greeter.greet("b"), await greeter.greet("c")]

    assert said == ["a 8", "b 7", "c 7"]


async def test_bytes_are_passed_both_ways(spec: PluginSpec) -> None:
    """Ten megabytes that the plugin reads and ten that it writes; neither side ever holds them."""
    chunks = [bytes([number]) * 100_000 for number in range(100)]
    digest, taken = hashlib.sha256(b"".join(chunks)).hexdigest(), hashlib.sha256()
    async with supervise(spec) as supervisor:
        plugin, channel = supervisor.plugin("errands"), await channel_of(supervisor)
        async with plugin.offer(ByteSource(chunks)) as service_id:
            assert await run_errand(channel, "Digest", service_id) == f"10000000 {digest}"
        async with plugin.offer(ByteSink(taken.update)) as service_id:
            assert await run_errand(channel, "Fill", service_id) == "10000000"

    assert taken.hexdigest() == digest


@pytest.mark.parametrize("wrong", [object(), Greeter])
async def test_what_is_no_servicer_is_not_offered(wrong: Any) -> None:
    """Something else, or a class where one of its instances is meant: said so, and it costs no id."""
    async with supervise(specify()) as supervisor:
        await supervisor.ready()
        with pytest.raises(ConfigurationError, match="is not a servicer"):
            await supervisor.plugin("errands").offer(wrong)


async def test_services_end_with_the_life_they_were_offered_to(spec: PluginSpec) -> None:
    """Stubs of the life that has ended fail, and what was awaited is gone."""
    async with supervise(spec) as supervisor:
        plugin, channel = supervisor.plugin("errands"), await channel_of(supervisor)
        await plugin.offer(Greeter())
        greeter = await plugin.dial(int(await run_errand(channel, "Lend", 1)), GreeterStub)
        connections = plugin._keeper.instance.connections  # type: ignore[union-attr]
        await plugin.restart()

        with pytest.raises(ConnectionLostError):
            await greeter.greet("x")
        assert connections is not None
        assert connections._broker.open_connections == 0
        async with plugin.offer(Greeter(str.upper)) as service_id:
            assert await run_errand(channel, "Greet", service_id) == "PLUGIN"


@pytest.mark.parametrize("multiplex", [False, True])
async def test_limit_of_open_services(multiplex: bool) -> None:
    """One too many is refused with the plugin's name; the connection goes on."""
    spec = specify(multiplex=multiplex, limits=Limits(broker_connections=1))
    async with supervise(spec) as supervisor:
        plugin, channel = supervisor.plugin("errands"), await channel_of(supervisor)
        async with plugin.offer(Greeter(str.upper)) as service_id:
            with pytest.raises(BrokerError, match="1 brokered services") as caught:
                await plugin.offer(Greeter())
            assert await run_errand(channel, "Greet", service_id) == "PLUGIN"

    assert caught.value.plugin == "errands"


async def test_stopped_plugin_is_offered_nothing() -> None:
    """As a call would, an offer says why."""
    async with supervise(specify()) as supervisor:
        plugin = supervisor.plugin("errands")
        await plugin.stop()

        with pytest.raises(PluginStoppedError):
            await plugin.offer(Greeter())
        with pytest.raises(PluginStoppedError):
            await plugin.dial(1, GreeterStub)


async def test_plugin_without_a_broker_is_offered_nothing(supervise: Callable[..., Supervisor]) -> None:
    """It works otherwise."""

    async def serve(process: ScriptedProcess) -> int:
        return await process.serve()

    async with supervise(serve) as supervisor:
        plugin = supervisor.plugin("store")
        with pytest.raises(BrokerError, match=r"does not serve plugin\.GRPCBroker"):
            await plugin.dial(1, GreeterStub)


async def test_strangers_cannot_connect_to_what_is_offered_to_a_plugin() -> None:
    """Another process of the same user, which finds the socket, is hung up on: only the plugin's own tree may call."""
    async with supervise(specify()) as supervisor:
        plugin = supervisor.plugin("errands")
        async with plugin.offer(Greeter()):
            process: Any = plugin._keeper.instance._process  # type: ignore[union-attr]
            (name,) = (name for name in os.listdir(process.directory) if name.startswith("host"))
            stranger = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(100))",
                f"{process.directory}/{name}",
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await asyncio.wait_for(stranger.communicate(), 20)

    assert said == b"b''\n"


# --- multiplexing -------------------------------------------------------------------------------------------------


async def test_plugin_that_does_not_multiplex_is_given_up_on(supervise: Callable[..., Supervisor]) -> None:
    """In go-plugin's words, and at once: no restart mends it."""

    async def serve(process: ScriptedProcess) -> int:
        return await process.serve()

    async with supervise(serve, multiplex=True) as supervisor:
        plugin = supervisor.plugin("store")
        await asyncio.wait_for(plugin.wait_at_rest(), 10)

    assert plugin.restarts == 0
    assert plugin.cause is not None
    assert "client requested gRPC broker multiplexing but plugin does not support the feature" in plugin.cause


async def test_multiplexed_plugin_ends_when_its_one_connection_does() -> None:
    """Nobody can reach it any more: go-plugin's plugins end then, too."""
    once = RestartPolicy(restart=Restart.TEMPORARY)
    async with supervise(specify(multiplex=True, restart=once)) as supervisor:
        plugin = supervisor.plugin("errands")
        await plugin.ready()
        connections: Any = plugin._keeper.instance.connections  # type: ignore[union-attr]
        connections._multiplexer.close()
        await asyncio.wait_for(plugin.wait_at_rest(), 20)

    assert plugin.last_exit is not None
    assert plugin.last_exit.status.code == 0
