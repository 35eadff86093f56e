"""The supervisor as an application meets it, over scripted plugins."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

import anyio
import pytest
from grpclib.const import Cardinality
from kv_proto import GetRequest, GetResponse, KvBase, KvStub

from supervisor import (
    Interface,
    PluginCrashedError,
    PluginDrainingError,
    PluginFailedError,
    PluginNotFoundError,
    PluginSpec,
    PluginStoppedError,
    PluginUnavailableError,
    Restart,
    RestartIntensity,
    RestartPolicy,
    State,
    StopPolicy,
    Strategy,
    Supervisor,
    SupervisorError,
)
from supervisor.errors import DeadlineExceededError, RestartIntensityExceededError, VersionMismatchError
from supervisor.events import Event, StateChanged
from supervisor.outcome import ExitReason
from supervisor.testing.scripted import ScriptedProcess, ScriptedRunner

Supervise = Callable[..., Supervisor]

KV = Interface("kv", KvStub)


class Store(KvBase):
    """Answers with what the test says; `hang` waits for ever."""

    def __init__(self) -> None:
        self.called = anyio.Event()
        self.calls: list[str] = []

    async def get(self, message: GetRequest) -> GetResponse:
        self.calls.append(message.key)
        self.called.set()
        if message.key == "hang":
            await anyio.sleep_forever()
        return GetResponse(value=message.key.encode())


async def serve_store(process: ScriptedProcess) -> int:
    """Be a plugin that serves the store."""
    return await process.serve(Store())


class Stores:
    """A script whose instances and services the test can reach."""

    def __init__(self) -> None:
        self.processes: list[ScriptedProcess] = []
        self.stores: list[Store] = []

    async def __call__(self, process: ScriptedProcess) -> int:
        self.processes.append(process)
        self.stores.append(Store())
        return await process.serve(self.stores[-1])


async def test_dispensed_stub_calls_the_plugin(supervise: Supervise) -> None:
    """A stub from dispense answers a call."""
    async with supervise(serve_store) as supervisor:
        kv = await supervisor.dispense("store", KvStub)
        assert (await kv.get(GetRequest(key="a"))).value == b"a"


async def test_stub_survives_a_crash(supervise: Supervise) -> None:
    """The same stub works again after the plugin's process died, on a new generation."""
    stores = Stores()
    async with supervise(stores) as supervisor:
        kv = await supervisor.dispense("store", KvStub)
        await crash_and_await_exit(supervisor, stores)
        assert (await kv.get(GetRequest(key="b"))).value == b"b"
        plugin = supervisor.plugin("store")
        assert (plugin.generation, plugin.restarts) == (2, 1)
        assert plugin.last_exit is not None
        assert plugin.last_exit.status.signal == signal.SIGKILL


async def test_interface_finds_the_plugin_that_provides_it(supervise: Supervise) -> None:
    """dispense(KV) picks the plugin by its `provides`, among several."""
    other = PluginSpec(name="other", command=("scripted",))
    async with supervise(serve_store, other, provides=("kv",)) as supervisor:
        kv = await supervisor.dispense(KV)
        assert (await kv.get(GetRequest(key="a"))).value == b"a"


async def test_only_plugin_is_found_by_the_stub_alone(supervise: Supervise) -> None:
    """dispense(KvStub) needs no name when there is one plugin."""
    async with supervise(serve_store) as supervisor:
        kv = await supervisor.dispense(KvStub)
        assert (await kv.get(GetRequest(key="a"))).value == b"a"


async def test_ambiguous_stub_is_refused(supervise: Supervise) -> None:
    """dispense(KvStub) among several plugins says which they are."""
    other = PluginSpec(name="other", command=("scripted",))
    async with supervise(serve_store, other) as supervisor:
        with pytest.raises(PluginNotFoundError, match="'store', 'other'"):
            await supervisor.dispense(KvStub)


async def test_unknown_names_are_refused(supervise: Supervise) -> None:
    """A name or an interface that nobody has is a PluginNotFoundError, which is a LookupError too."""
    async with supervise(serve_store) as supervisor:
        with pytest.raises(LookupError, match="'nobody'"):
            await supervisor.dispense("nobody", KvStub)
        with pytest.raises(PluginNotFoundError, match="provides"):
            await supervisor.dispense(KV)
        with pytest.raises(PluginNotFoundError):
            supervisor.plugin("nobody")


async def test_interface_of_another_version_is_refused(supervise: Supervise) -> None:
    """An interface made for version 2 is not dispensed from a plugin that speaks version 1."""
    async with supervise(serve_store, provides=("kv",)) as supervisor:
        with pytest.raises(VersionMismatchError) as caught:
            await supervisor.dispense(Interface("kv", KvStub, version=2))
        assert (caught.value.spoken, caught.value.accepted) == (1, (2,))


async def test_use_outside_of_the_context_is_refused(supervise: Supervise) -> None:
    """Dispensing before entering, and calling after leaving, are typed errors."""
    supervisor = supervise(serve_store)
    with pytest.raises(SupervisorError, match="not running"):
        await supervisor.dispense(KvStub)
    async with supervisor:
        kv = await supervisor.dispense(KvStub)
    with pytest.raises(PluginStoppedError):
        await kv.get(GetRequest(key="a"))


async def test_supervisor_may_be_entered_again(supervise: Supervise) -> None:
    """After leaving, the same object can be entered again and works; entering it twice at once is refused."""
    supervisor = supervise(serve_store)
    for _ in range(2):
        async with supervisor:
            with pytest.raises(RuntimeError):
                await supervisor.__aenter__()
            kv = await supervisor.dispense(KvStub)
            assert (await kv.get(GetRequest(key="a"))).value == b"a"


async def test_enter_and_exit_in_different_tasks(supervise: Supervise) -> None:
    """A supervisor entered in one task may be left in another, as fixtures and lifespans do."""
    supervisor = supervise(serve_store)
    await asyncio.create_task(supervisor.__aenter__())
    kv = await asyncio.create_task(supervisor.dispense(KvStub))
    assert (await kv.get(GetRequest(key="a"))).value == b"a"
    await asyncio.create_task(supervisor.aclose())
    await supervisor.aclose()


# --- calls while the plugin is away ------------------------------------------------------------------------------------


async def test_call_in_flight_raises_crashed(supervise: Supervise) -> None:
    """A call that was in flight when the process died raises PluginCrashedError, may have run, and names the signal."""
    stores = Stores()
    async with supervise(stores) as supervisor:
        kv = await supervisor.dispense(KvStub)
        call = asyncio.create_task(kv.get(GetRequest(key="hang")))
        await stores.stores[0].called.wait()
        stores.processes[0].kill_tree()
        with pytest.raises(PluginCrashedError) as caught:
            await call
        assert caught.value.maybe_executed
        assert caught.value.plugin == "store"
        assert caught.value.report is not None
        assert caught.value.report.status.signal == signal.SIGKILL


async def test_idempotent_method_is_sent_again(supervise: Supervise) -> None:
    """A method named idempotent in the specification survives the crash of the plugin under it."""
    stores = Stores()
    async with supervise(stores, idempotent=frozenset({"/proto.KV/Get"})) as supervisor:
        kv = await supervisor.dispense(KvStub)
        call = asyncio.create_task(kv.get(GetRequest(key="hang")))
        await stores.stores[0].called.wait()
        stores.processes[0].kill_tree()
        while len(stores.stores) < 2:  # the script runs on this loop, so each turn may be the one
            await asyncio.sleep(0)
        await stores.stores[1].called.wait()
        assert stores.stores[1].calls == ["hang"]
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_other_methods_are_not_sent_again(supervise: Supervise) -> None:
    """A call of a method that nobody called idempotent reaches one life only."""
    stores = Stores()
    async with supervise(stores) as supervisor:
        kv = await supervisor.dispense(KvStub)
        call = asyncio.create_task(kv.get(GetRequest(key="hang")))
        await stores.stores[0].called.wait()
        stores.processes[0].kill_tree()
        with pytest.raises(PluginCrashedError):
            await call
        await kv.get(GetRequest(key="next"))
        assert stores.stores[1].calls == ["next"]


async def test_call_waits_while_restarting(supervise: Supervise) -> None:
    """A call that finds the plugin away waits for its next life."""
    stores = Stores()
    async with supervise(stores) as supervisor:
        kv = await supervisor.dispense(KvStub)
        await crash_and_await_exit(supervisor, stores)
        assert supervisor.plugin("store").state is not State.READY
        assert (await kv.get(GetRequest(key="b"))).value == b"b"


async def test_call_fails_at_once_when_told_not_to_wait(supervise: Supervise) -> None:
    """With while_restarting = "fail" a call that finds the plugin away does not wait, and the first start is no restart."""
    stores = Stores()
    async with supervise(stores, while_restarting="fail") as supervisor:
        kv = await supervisor.dispense(KvStub)
        await crash_and_await_exit(supervisor, stores)
        with pytest.raises(PluginUnavailableError, match="may not wait") as caught:
            await kv.get(GetRequest(key="b"))
        assert not caught.value.maybe_executed
        assert len(stores.processes) == 1


async def test_call_waits_no_longer_than_ready_timeout(supervise: Supervise) -> None:
    """A plugin that does not come back fails the call after ready_timeout, saying so."""
    started = 0

    async def once(process: ScriptedProcess) -> int:
        nonlocal started
        started += 1
        if started == 1:
            return await process.serve(Store())
        await anyio.sleep_forever()
        return 0

    async with supervise(once, ready_timeout=0.05) as supervisor:
        kv = await supervisor.dispense(KvStub)
        runner_of(supervisor).launched[0].kill_tree()
        await until_state(supervisor, State.STARTING)
        with pytest.raises(PluginUnavailableError, match="not ready within"):
            await kv.get(GetRequest(key="b"))
        with pytest.raises(DeadlineExceededError, match="starting"):
            await kv.get(GetRequest(key="b"), timeout=0.01)


async def test_every_call_has_a_deadline(supervise: Supervise) -> None:
    """A call without a timeout of its own ends after call_timeout with a TimeoutError of ours; None lifts it."""
    stores = Stores()
    async with supervise(stores, call_timeout=0.05) as supervisor:
        kv = await supervisor.dispense(KvStub)
        with pytest.raises(TimeoutError) as caught:
            await kv.get(GetRequest(key="hang"))
        assert isinstance(caught.value, DeadlineExceededError)
        assert caught.value.plugin == "store"
        patient = await supervisor.dispense(KvStub, timeout=None)
        with anyio.move_on_after(0.2) as scope:
            await patient.get(GetRequest(key="hang"))
        assert scope.cancelled_caught


async def test_callers_own_error_ends_a_stream(supervise: Supervise) -> None:
    """A repaired stub ends a call with the error of the iterator that its requests come from, unchanged."""
    async with supervise(serve_store) as supervisor:
        channel = await supervisor.dispense("store", lambda channel: channel)
        with pytest.raises(ZeroDivisionError):
            async with channel.request("/proto.KV/Get", Cardinality.UNARY_UNARY, GetRequest, GetResponse) as call:
                await call.send_message(GetRequest(key="hang"), end=True)
                call.fail(ZeroDivisionError())
                await call.recv_message()


# --- starting, stopping, restarting ------------------------------------------------------------------------------------


async def test_stop_and_start(supervise: Supervise) -> None:
    """stop() leaves it at rest with a report that is no failure, start() brings it back; both are idempotent."""
    async with supervise(serve_store) as supervisor:
        plugin = supervisor.plugin("store")
        kv = await supervisor.dispense(KvStub)
        await plugin.stop()
        await plugin.stop()
        assert plugin.state is State.STOPPED
        assert plugin.last_exit is not None
        assert plugin.last_exit.reason is ExitReason.STOPPED
        assert not plugin.last_exit.failed
        with pytest.raises(PluginStoppedError):
            await kv.get(GetRequest(key="a"))
        await plugin.start()
        await plugin.start()
        assert (plugin.generation, plugin.state) == (2, State.READY)
        assert (await kv.get(GetRequest(key="a"))).value == b"a"


async def test_restart_costs_nothing_of_the_budget(supervise: Supervise) -> None:
    """More ordered restarts than the intensity allows do not make the supervisor give up."""
    policy = RestartPolicy(intensity=RestartIntensity(limit=1, period=60))
    async with supervise(serve_store, restart=policy) as supervisor:
        plugin = supervisor.plugin("store")
        await plugin.ready()
        for generation in (2, 3, 4):
            await plugin.restart()
            assert (plugin.generation, plugin.state) == (generation, State.READY)


async def test_drain_lets_calls_in_flight_finish(supervise: Supervise) -> None:
    """stop() waits for a call in flight and refuses new ones meanwhile."""
    released = anyio.Event()

    class Slow(KvBase):
        async def get(self, message: GetRequest) -> GetResponse:
            await released.wait()
            return GetResponse(value=b"late")

    async with supervise(lambda process: process.serve(Slow())) as supervisor:
        kv = await supervisor.dispense(KvStub)
        plugin = supervisor.plugin("store")
        call = asyncio.create_task(kv.get(GetRequest(key="a")))
        while not plugin.in_flight:  # the call is made on this loop
            await asyncio.sleep(0)
        stop = asyncio.create_task(plugin.stop())
        await until_state(supervisor, State.DRAINING)
        with pytest.raises(PluginDrainingError):
            await kv.get(GetRequest(key="b"))
        released.set()
        assert (await call).value == b"late"
        await stop


async def test_drain_gives_up_after_its_grace(supervise: Supervise) -> None:
    """A call that never ends holds a stop up for no longer than the drain's grace."""
    stores = Stores()
    async with supervise(stores, stop=StopPolicy(drain=0.05)) as supervisor:
        kv = await supervisor.dispense(KvStub)
        call = asyncio.create_task(kv.get(GetRequest(key="hang")))
        await stores.stores[0].called.wait()
        await supervisor.plugin("store").stop()
        with pytest.raises((PluginCrashedError, SupervisorError)):
            await call


async def test_temporary_plugin_is_not_restarted(supervise: Supervise) -> None:
    """A temporary plugin that fails is at rest afterwards, and calls say that it is stopped."""
    stores = Stores()
    async with supervise(stores, restart=RestartPolicy(restart=Restart.TEMPORARY)) as supervisor:
        kv = await supervisor.dispense(KvStub)
        await crash_and_await_exit(supervisor, stores)
        await until_state(supervisor, State.STOPPED)
        with pytest.raises(PluginStoppedError):
            await kv.get(GetRequest(key="a"))


async def test_giving_up_is_a_state_with_a_cause(supervise: Supervise) -> None:
    """A crash loop ends in FAILED after limit + 1 lives; calls say why, and restart() tries again."""
    broken = True

    async def script(process: ScriptedProcess) -> int:
        return 3 if broken else await process.serve(Store())

    policy = RestartPolicy(intensity=RestartIntensity(limit=1, period=60))
    async with supervise(script, restart=policy) as supervisor:
        plugin = supervisor.plugin("store")
        with pytest.raises(PluginFailedError, match="exit code 3") as caught:
            await supervisor.dispense(KvStub)
        assert (plugin.state, plugin.generation) == (State.FAILED, 2)
        assert caught.value.report is plugin.last_exit
        assert plugin.cause is not None
        broken = False
        await plugin.restart()
        assert plugin.state is State.READY
        assert plugin.cause is None


async def test_escalating_plugin_ends_the_supervisor(supervise: Supervise) -> None:
    """Giving up on a plugin with escalate stops all plugins, and leaving raises."""

    async def script(process: ScriptedProcess) -> int:
        return 1

    policy = RestartPolicy(intensity=RestartIntensity(limit=0))
    supervisor = supervise(script, restart=policy, escalate=True)
    with pytest.raises(RestartIntensityExceededError) as caught:
        async with supervisor:
            with contextlib.suppress(RestartIntensityExceededError):
                await supervisor.wait_closed()
    assert caught.value.plugin == "store"


async def test_failure_of_one_plugin_leaves_the_others(supervise: Supervise) -> None:
    """A plugin that was given up on takes nobody with it."""

    async def script(process: ScriptedProcess) -> int:
        return 1 if process.spec_name == "bad" else await process.serve(Store())

    bad = PluginSpec(name="bad", command=("scripted",), restart=RestartPolicy(intensity=RestartIntensity(limit=0)))
    async with supervise(script, bad) as supervisor:
        await until_state(supervisor, State.FAILED, name="bad")
        kv = await supervisor.dispense("store", KvStub)
        assert (await kv.get(GetRequest(key="a"))).value == b"a"


@pytest.mark.parametrize(
    ("strategy", "generations"),
    [
        (Strategy.ONE_FOR_ONE, {"a": 1, "b": 2, "c": 1}),
        (Strategy.REST_FOR_ONE, {"a": 1, "b": 2, "c": 2}),
        (Strategy.ONE_FOR_ALL, {"a": 2, "b": 2, "c": 2}),
    ],
)
async def test_strategy_says_who_else_restarts(strategy: Strategy, generations: dict[str, int]) -> None:
    """The crash of `b` restarts whom the strategy names, and each follows those before it in start order."""
    order: list[tuple[str, int]] = []

    async def script(process: ScriptedProcess) -> int:
        order.append((process.spec_name, process.generation))
        return await process.serve(Store())

    specs = [PluginSpec(name=name, command=("scripted",)) for name in "abc"]
    runner = ScriptedRunner(script)
    async with Supervisor(specs, strategy=strategy, observers=(), runner=lambda: runner) as supervisor:
        await supervisor.ready()
        with supervisor.subscribe() as events:
            next(process for process in runner.launched if process.spec_name == "b").kill_tree()
            waiting = {name for name, generation in generations.items() if generation == 2}
            async for event in events:
                if isinstance(event, StateChanged) and event.new is State.READY:
                    waiting.discard(event.plugin)
                if not waiting:
                    break
        assert {name: plugin.generation for name, plugin in supervisor.plugins.items()} == generations
        second = [name for name, generation in order if generation == 2]
        assert second == sorted(second)


async def test_order_is_believed_before_it_is_carried_out(supervise: Supervise) -> None:
    """Two starts at once, and a call right after one, wait for the new life instead of being told that it is stopped."""
    async with supervise(serve_store) as supervisor:
        plugin = supervisor.plugin("store")
        kv = await supervisor.dispense(KvStub)
        await plugin.stop()
        _, _, answer = await asyncio.gather(plugin.start(), plugin.start(), kv.get(GetRequest(key="a")))
        assert answer.value == b"a"


async def test_stop_that_overtakes_a_start_ends_its_wait(supervise: Supervise) -> None:
    """A start that a stop takes back in the same turn is told so, and does not wait for ever."""
    async with supervise(serve_store) as supervisor:
        plugin = supervisor.plugin("store")
        await plugin.ready()
        await plugin.stop()
        start = asyncio.create_task(plugin.start())
        await asyncio.sleep(0)
        await plugin.stop()
        with pytest.raises(PluginStoppedError):
            await asyncio.wait_for(start, 5)


async def test_ordered_restart_waits_where_calls_may_not(supervise: Supervise) -> None:
    """`while_restarting = "fail"` is about calls: restart() and start() still wait for the new life."""
    async with supervise(serve_store, while_restarting="fail") as supervisor:
        plugin = supervisor.plugin("store")
        await plugin.ready()
        await plugin.restart()
        await plugin.stop()
        await plugin.start()
        assert (plugin.state, plugin.generation) == (State.READY, 3)


async def test_leaving_twice_leaves_a_new_run_alone(supervise: Supervise) -> None:
    """A second aclose() that ends late does not forget a run that somebody has entered meanwhile."""
    supervisor = supervise(serve_store)
    await supervisor.__aenter__()

    async def leave_and_enter() -> None:
        await supervisor.aclose()
        await supervisor.__aenter__()

    await asyncio.gather(leave_and_enter(), supervisor.aclose())
    assert (await (await supervisor.dispense(KvStub)).get(GetRequest(key="a"))).value == b"a"
    await supervisor.aclose()


async def test_life_that_dies_in_the_turn_in_which_it_comes_up(supervise: Supervise) -> None:
    """However many turns after its handshake a plugin dies, it is restarted and never taken for a defect of ours."""
    for turns in range(40):

        async def brief(process: ScriptedProcess, turns: int = turns) -> int:
            serving = asyncio.create_task(process.serve(Store()))
            try:
                while process.address is None or process.generation > 1:
                    await asyncio.sleep(0)
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                serving.cancel()
                await asyncio.wait([serving])
            return 1

        async with supervise(brief, health=None) as supervisor:
            await until_state(supervisor, State.EXITED)
            await until_state(supervisor, State.STARTING)
            assert supervisor.plugin("store").cause is None


# --- leaving ---------------------------------------------------------------------------------------------------------


async def test_cancelled_leave_still_stops_the_plugins(supervise: Supervise) -> None:
    """A cancellation while leaving is delivered only after the plugins have stopped as they should."""
    stores = Stores()
    supervisor = supervise(stores)
    await supervisor.__aenter__()
    await supervisor.ready()
    leaving = asyncio.create_task(supervisor.aclose())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert stores.processes[0].received == []
    assert await stores.processes[0].wait()


async def test_second_cancellation_kills_at_once(supervise: Supervise) -> None:
    """A plugin that would take its whole grace is killed when the leaving task is cancelled twice."""

    async def stubborn(process: ScriptedProcess) -> int:
        process.ignores.add(signal.SIGTERM)
        task = asyncio.create_task(process.serve(Store()))
        try:
            await anyio.sleep_forever()
        finally:
            task.cancel()
        return 0

    supervisor = supervise(stubborn)
    await supervisor.__aenter__()
    await supervisor.ready()
    process = runner_of(supervisor).launched[0]
    leaving = asyncio.create_task(supervisor.aclose())
    await until_state(supervisor, State.STOPPING)
    leaving.cancel()
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert process.received[-1] == signal.SIGKILL


async def test_anyio_scope_around_a_leave_is_gentle(supervise: Supervise) -> None:
    """A cancelled scope, which cancels every await again and again, counts as one cancellation and no kill."""
    stores = Stores()
    with anyio.move_on_after(0.01) as scope:
        async with supervise(stores) as supervisor:
            await supervisor.ready()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert stores.processes[0].received == []


async def test_broken_observer_is_dropped_and_events_go_on(supervise: Supervise) -> None:
    """An observer that raises is told nothing more; subscribers still get every event, and the loop is told why."""

    class Broken:
        told = 0

        def on_event(self, event: Event) -> None:
            self.told += 1
            raise ValueError("broken")

        def on_record(self, *args: object) -> None:
            raise AssertionError("dropped before any record")

    broken = Broken()
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    async with supervise(serve_store, observers=[broken]) as supervisor:
        await supervisor.ready()
        assert supervisor.plugin("store").state is State.READY
    assert broken.told == 1
    assert len(complaints) == 1


async def test_put_and_get_through_the_lifespan(supervise: Supervise) -> None:
    """`lifespan` takes the application and gives a context manager in which plugins run."""
    supervisor = supervise(serve_store)
    async with supervisor.lifespan(object()):
        kv = await supervisor.dispense(KvStub)
        assert (await kv.get(GetRequest(key="x"))).value == b"x"
    assert "not running" in repr(supervisor)


# --- small parts -----------------------------------------------------------------------------------------------------


def runner_of(supervisor: Supervisor) -> ScriptedRunner:
    """Return the scripted runner of a running supervisor."""
    runner = supervisor._running._runner
    assert isinstance(runner, ScriptedRunner)
    return runner


async def until_state(supervisor: Supervisor, state: State, name: str = "store") -> None:
    """Wait until a plugin is in a state."""
    plugin = supervisor.plugin(name)
    with anyio.fail_after(5):
        while plugin.state is not state:
            await supervisor._running.keepers[name].wait_changed()


async def crash_and_await_exit(supervisor: Supervisor, stores: Stores) -> None:
    """Kill the current life and wait until the supervisor knows."""
    stores.processes[-1].kill_tree()
    await until_state(supervisor, State.EXITED)
