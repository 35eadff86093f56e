"""Row 71 of the fault table: cancelled at every step of everything, a caller gets its cancellation and nothing is left.

The full sweep runs over scripted plugins, where a step costs microseconds; a coarser one over real processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.const import Cardinality, Handler
from kv_proto import GetRequest, GetResponse, KvBase, KvStub
from watching import Log

from supervisor import PluginSpec, State, StopPolicy, Supervisor, SupervisorError
from supervisor.events import StateChanged
from supervisor.testing.cancellation import Moment, Outcome, Style, cancel_at_every_step
from supervisor.testing.scripted import ScriptedProcess, ScriptedRunner

Supervise = Callable[..., Supervisor]

FOLLOW = "/test.Stream/Follow"
TWICE = (None, 1, 2, 3)

every_way = pytest.mark.parametrize(
    ("style", "moment"), [(style, moment) for style in Style for moment in Moment], ids=lambda value: value.name.lower()
)
"""Each style at each moment; the tests do it once and then twice, one to three steps apart."""


class Store(KvBase):
    """Answers the key; `hang` waits for ever."""

    async def get(self, message: GetRequest) -> GetResponse:
        if message.key == "hang":
            await anyio.sleep_forever()
        return GetResponse(value=message.key.encode())


class Stream:
    """Answers five times."""

    async def follow(self, stream: Any) -> None:
        request = await stream.recv_message()
        for _ in range(5):
            await stream.send_message(GetResponse(value=request.key.encode()))

    def __mapping__(self) -> Mapping[str, Handler]:
        return {FOLLOW: Handler(self.follow, Cardinality.UNARY_STREAM, GetRequest, GetResponse)}


async def serve(process: ScriptedProcess) -> int:
    """Be a plugin that serves both; the one named `mute` never says a word."""
    if process.spec_name == "mute":
        await anyio.sleep_forever()
    return await process.serve(Store(), Stream())


class Host:
    """A supervisor of scripted plugins, and what must hold of it whenever a sweep looks."""

    def __init__(self, *names: str, stop: StopPolicy = StopPolicy()) -> None:  # noqa: B008  # frozen
        self.log = Log()
        self.runner = ScriptedRunner(serve)
        specs = [PluginSpec(name=name, command=("scripted",), stop=stop) for name in ("store", *names)]
        self.supervisor = Supervisor(specs, observers=[self.log], runner=lambda: self.runner)

    def running(self) -> list[ScriptedProcess]:
        """Return the plugin processes that have not ended."""
        return [process for process in self.runner.launched if not process._ended.is_set()]

    async def assert_works(self) -> None:
        """The plugin runs once, has no call left in flight, and answers."""
        plugin = self.supervisor.plugin("store")
        async with asyncio.timeout(5):
            await plugin.start()
            kv = await self.supervisor.dispense("store", KvStub)
            assert (await kv.get(GetRequest(key="again"))).value == b"again"
        assert plugin.state is State.READY
        assert plugin.in_flight == 0
        instance = plugin._keeper.instance
        assert instance is not None
        assert instance.channel is not None
        # The two streams that the host itself keeps open are answered by "not implemented" here.
        assert instance.channel.in_flight == 0
        assert len(self.running()) == 1

    def assert_ended(self) -> None:
        """Nothing runs, and each life that began has ended once."""
        assert self.running() == []
        changes = {change.plugin: change.new for change in self.log.of(StateChanged)}
        assert set(changes.values()) <= {State.STOPPED}
        self.log.assert_each_launch_ended_once()

    @asynccontextmanager
    async def swept(self, **options: Any) -> AsyncIterator[Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]]:
        """Run, and yield a function that sweeps a coroutine in all ways, with this host working after each run."""

        async def sweep(make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
            for twice_after in TWICE:
                runs = await cancel_at_every_step(
                    make, twice_after=twice_after, check=self.assert_works, tasks_may_stay=True, timeout=5, **options
                )
                # A scope or timeout comes too late for the last wait once that is over.
                late = options["moment"] is Moment.WOKEN and options["style"] is not Style.NATIVE
                assert late or any(run.outcome is Outcome.CANCELLED for run in runs)

        async with self.supervisor:
            await self.assert_works()
            quiet = len(asyncio.all_tasks())
            yield sweep
            await self.assert_works()
            assert len(asyncio.all_tasks()) <= quiet, asyncio.all_tasks()
        self.assert_ended()


@every_way
async def test_row_71_start(style: Style, moment: Moment) -> None:
    """Cancelled at every step of entering and dispensing, a start leaves a supervisor that works or leaves as usual."""
    for twice_after in TWICE:
        hosts: list[Host] = []

        async def start(hosts: list[Host] = hosts) -> None:
            hosts.append(Host())
            supervisor = await hosts[-1].supervisor.__aenter__()
            await supervisor.dispense("store", KvStub)

        async def check(hosts: list[Host] = hosts) -> None:
            if hosts:  # else it was cancelled before its first line
                host = hosts.pop()
                await host.assert_works()
                await host.supervisor.aclose()
                host.assert_ended()

        await cancel_at_every_step(
            start, style=style, moment=moment, twice_after=twice_after, check=check, tasks_may_stay=True, timeout=5
        )


@every_way
async def test_row_71_call(style: Style, moment: Moment) -> None:
    """Cancelled at every step of a unary call, the call is out of flight and the next one is answered."""
    host = Host()
    async with host.swept(style=style, moment=moment) as sweep:
        kv = await host.supervisor.dispense("store", KvStub)
        await sweep(lambda: kv.get(GetRequest(key="a")))
        assert host.supervisor.plugin("store").generation == 1


@every_way
async def test_row_71_stream(style: Style, moment: Moment) -> None:
    """Cancelled at every step of a stream, the stream is out of flight and the next call is answered."""
    host = Host()
    async with host.swept(style=style, moment=moment) as sweep:
        channel: Any = await host.supervisor.dispense("store", lambda channel: channel)

        async def stream() -> None:
            async with channel.request(FOLLOW, Cardinality.UNARY_STREAM, GetRequest, GetResponse) as call:
                await call.send_message(GetRequest(key="a"), end=True)
                assert len([message async for message in call]) == 5

        await sweep(stream)
        assert host.supervisor.plugin("store").generation == 1


@every_way
async def test_row_71_stop(style: Style, moment: Moment) -> None:
    """Cancelled at every step of a stop, the order stands, and the plugin starts again when it is told to."""
    host = Host()
    async with host.swept(style=style, moment=moment) as sweep:
        plugin = host.supervisor.plugin("store")

        async def stop() -> None:
            before = plugin.generation
            await plugin.stop()
            assert (plugin.state, plugin.generation) == (State.STOPPED, before)

        await sweep(stop)


@every_way
async def test_row_71_restart(style: Style, moment: Moment) -> None:
    """Cancelled at every step of a restart, the order stands: the next call finds the next life."""
    host = Host()
    async with host.swept(style=style, moment=moment) as sweep:
        plugin = host.supervisor.plugin("store")

        async def restart() -> None:
            before = plugin.generation
            await plugin.restart()
            assert plugin.generation == before + 1

        await sweep(restart)


@every_way
async def test_row_71_whole_life(style: Style, moment: Moment) -> None:
    """Cancelled at every step of a whole life, from enter to exit, nothing of it is left."""
    hosts: list[Host] = []

    async def live() -> None:
        hosts.append(Host())
        async with hosts[-1].supervisor as supervisor:
            kv = await supervisor.dispense("store", KvStub)
            assert (await kv.get(GetRequest(key="a"))).value == b"a"

    async def check() -> None:
        for host in hosts:
            host.assert_ended()
        hosts.clear()

    for twice_after in TWICE:
        await cancel_at_every_step(live, style=style, moment=moment, twice_after=twice_after, check=check, timeout=5)


@pytest.mark.parametrize(("key", "stop"), [("a", StopPolicy()), ("hang", StopPolicy(drain=0, shutdown=0))])
async def test_row_71_second_cancellation_at_any_turn_of_a_leave(key: str, stop: StopPolicy) -> None:
    """While a cancelled caller leaves, a further cancellation kills at whatever turn it comes.

    Nothing is left, and who waited for an answer or for a start in another task is told.
    """
    hosts: list[Host] = []
    waiting: set[asyncio.Task[Any]] = set()

    async def leave() -> None:
        host = Host("mute", stop=stop)
        hosts.append(host)
        supervisor = await host.supervisor.__aenter__()
        kv = await supervisor.dispense("store", KvStub)
        waiting.add(asyncio.create_task(kv.get(GetRequest(key=key))))
        waiting.add(asyncio.create_task(supervisor.plugin("mute").ready()))
        cancelled = asyncio.CancelledError()
        await supervisor.__aexit__(type(cancelled), cancelled, None)

    async def check() -> None:
        host = hosts.pop()
        await host.supervisor.aclose()
        host.assert_ended()
        if waiting:
            _, left = await asyncio.wait(waiting, timeout=5)
            assert not left
            errors = [task.exception() for task in waiting]
            assert all(error is None or isinstance(error, SupervisorError) for error in errors), errors
            waiting.clear()

    for twice_after in (1, 2, 3, 5, 8):
        await cancel_at_every_step(
            leave, moment=Moment.TURN, twice_after=twice_after, check=check, tasks_may_stay=True, timeout=5
        )


# --- the same over real processes, coarser -----------------------------------------------------------------------------

STEPS_APART = 997
"""Turns of the loop between two runs of a sweep over processes: a life spins through some thousands of them."""


@pytest.mark.parametrize("style", Style)
async def test_row_71_real_life(evil: Callable[..., PluginSpec], style: Style) -> None:
    """Cancelled once and twice all along a life of a real process, no process, descriptor or directory is left."""
    logs: list[Log] = []

    async def live() -> None:
        logs.append(Log())
        async with Supervisor([greeter(evil)], observers=[logs[-1]]) as supervisor:
            await supervisor.ready()
            await supervisor.plugin("evil").restart()

    async def check() -> None:
        assert await asyncio.to_thread(children_that_run) == set()
        for log in logs:
            log.assert_each_launch_ended_once()
        logs.clear()

    for twice_after in (None, 1, 500):
        await cancel_at_every_step(
            live, style=style, moment=Moment.TURN, twice_after=twice_after, every=STEPS_APART, check=check, timeout=10
        )


async def test_row_71_real_calls(supervise: Supervise, kv: Callable[..., PluginSpec]) -> None:
    """Cancelled at every step of a call and a stream to a real process, the next call is answered by the same life."""
    async with supervise(kv()) as supervisor:
        channel: Any = await supervisor.dispense("store", lambda channel: channel)
        stub = KvStub(channel)
        plugin = supervisor.plugin("store")

        async def stream() -> None:
            async with channel.request(FOLLOW, Cardinality.UNARY_STREAM, GetRequest, GetResponse) as call:
                await call.send_message(GetRequest(key="5"), end=True)
                assert len([message async for message in call]) == 5

        async def check() -> None:
            assert (await stub.get(GetRequest(key="a"), timeout=5)).value == b""
            assert plugin.in_flight == 0
            assert plugin.generation == 1

        for style in Style:
            for moment in (Moment.SUSPENDED, Moment.WOKEN):
                for twice_after in (None, 1):
                    for make in (lambda: stub.get(GetRequest(key="a")), stream):
                        await cancel_at_every_step(
                            make, style=style, moment=moment, twice_after=twice_after, check=check, tasks_may_stay=True
                        )


def greeter(evil: Callable[..., PluginSpec]) -> PluginSpec:
    """Return a plugin that starts in milliseconds and ignores what it is asked."""
    deeds = ("listen", "{dir}/s", "handshake", "{dir}/s", "accept", "receive", "greet", "hang")
    return evil(*deeds, health=None, stop=StopPolicy(drain=0, shutdown=0, terminate=1))


def children_that_run() -> set[int]:
    """Return this process's children; what was killed has been reaped too."""
    own = Path("/proc/self/task")
    return {int(pid) for task in own.iterdir() for pid in (task / "children").read_text().split()}
