"""Rows 17, 18, 58 and 59 of the fault table: a plugin dies, and what becomes of its callers."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engines import transport_of
from grpclib.const import Cardinality
from kv_proto import GetRequest, GetResponse, KvStub, PutRequest
from watching import Log, exit_of, until, until_state

from supervisor import (
    Backoff,
    PluginCrashedError,
    PluginFailedError,
    PluginSpec,
    PluginStoppedError,
    PluginUnavailableError,
    Restart,
    RestartIntensity,
    RestartPolicy,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.errors import DeadlineExceededError
from supervisor.events import InstanceExited, StateChanged
from supervisor.outcome import ExitReason
from supervisor.spec import Engine

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

AGAIN = RestartPolicy(
    restart=Restart.PERMANENT, intensity=RestartIntensity(limit=30), backoff=Backoff(initial=0, ceiling=0)
)
QUICK = StopPolicy(drain=0, shutdown=0.05)
FOLLOW = "/test.Stream/Follow"


def kill(supervisor: Supervisor, number: int = signal.SIGKILL) -> float:
    """Send the only plugin's process a signal and return the moment."""
    (plugin,) = supervisor.plugins.values()
    assert plugin.pid is not None
    os.kill(plugin.pid, number)
    return asyncio.get_running_loop().time()


# --- row 17 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_row_17_signal_while_idle(supervise: Supervise, kv: MakeSpec, log: Log, number: int) -> None:
    """A signal ends an idle plugin: the exit names it, and the next life is ready without anybody asking."""
    async with supervise(kv(restart=AGAIN)) as supervisor:
        await supervisor.ready()
        kill(supervisor, number)
        plugin = supervisor.plugin("store")
        await until(lambda: (plugin.generation, plugin.state) == (2, State.READY), supervisor)
        assert plugin.last_exit is not None
        assert (plugin.last_exit.reason, plugin.last_exit.status.signal) == (ExitReason.SIGNALED, number)
        assert plugin.last_exit.failed
    assert [e.generation for e in log.of(InstanceExited)] == [1, 2]


@pytest.mark.parametrize(
    ("key", "code", "number"),
    [("crash:0", 0, None), ("crash:7", 7, None), ("signal:9", None, 9), ("signal:11", None, 11)],
)
async def test_row_17_end_under_load(
    supervise: Supervise, kv: MakeSpec, key: str, code: int | None, number: int | None
) -> None:
    """A plugin that ends amid 50 calls: each of them and the deadly one raise PluginCrashedError with the same report."""
    async with supervise(kv(restart=AGAIN)) as supervisor:
        store = await supervisor.dispense(KvStub)
        calls = [asyncio.create_task(store.get(GetRequest(key="hang"))) for _ in range(50)]
        await store.get(GetRequest(key="hanging:50"))
        with pytest.raises(PluginCrashedError) as caught:
            await store.get(GetRequest(key=key))
        assert caught.value.report is not None
        status = caught.value.report.status
        assert (status.code, status.signal) == (code, number)
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, PluginCrashedError)
            assert result.maybe_executed
            assert result.report is not None
            assert result.report.status == status
        assert (await store.get(GetRequest(key="pid"))).value


async def test_row_17_crash_is_noticed_at_once(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """From a SIGKILL to the state that says so it takes less than 50 ms, at the median of fifteen."""
    spec = evil(
        *("listen", "{dir}/s", "handshake", "{dir}/s", "accept", "greet", "hang"),
        health=None,
        restart=AGAIN,
        stop=QUICK,
    )
    killed = []
    async with supervise(spec) as supervisor:
        plugin = supervisor.plugin("evil")
        for generation in range(1, 16):
            await until(lambda want=generation: (plugin.generation, plugin.state) == (want, State.READY), supervisor)  # type: ignore[misc]
            killed.append(kill(supervisor))
        await until(lambda: plugin.generation == 16, supervisor)
    noticed = [e.at for e in log.of(StateChanged) if e.new is State.EXITED][:15]
    assert statistics.median(after - before for before, after in zip(killed, noticed, strict=True)) <= 0.05


# --- row 18 ------------------------------------------------------------------------------------------------------------


async def test_row_18_thousands_of_calls_in_flight(supervise: Supervise, kv: MakeSpec) -> None:
    """5,000 calls and 100 streams in flight, SIGKILL: all raise PluginCrashedError within 2 s, and the next call succeeds."""
    async with supervise(kv(restart=AGAIN, call_timeout=60)) as supervisor:
        store = await supervisor.dispense("store", KvStub)
        channel: Any = await supervisor.dispense("store", lambda channel: channel)
        following = asyncio.Semaphore(0)

        async def follow() -> None:
            async with channel.request(FOLLOW, Cardinality.UNARY_STREAM, GetRequest, GetResponse) as stream:
                await stream.send_message(GetRequest(key="hang"), end=True)
                assert (await stream.recv_message()).value == b"0"
                following.release()
                await stream.recv_message()

        calls = [asyncio.create_task(store.get(GetRequest(key="hang"))) for _ in range(5000)]
        streams = [asyncio.create_task(follow()) for _ in range(100)]
        await store.get(GetRequest(key="hanging:5000"))
        for _ in streams:
            await following.acquire()
        assert supervisor.plugin("store").in_flight == 5100

        killed = kill(supervisor)
        done, pending = await asyncio.wait([*calls, *streams], timeout=10)
        took = asyncio.get_running_loop().time() - killed
        assert not pending
        assert Counter(type(task.exception()) for task in done) == {PluginCrashedError: 5100}
        assert all(task.exception().report.status.signal == signal.SIGKILL for task in done)  # type: ignore[union-attr]
        assert took <= 2
        assert (await store.get(GetRequest(key="pid"))).value


# --- row 58 ------------------------------------------------------------------------------------------------------------


async def expect_bounded(supervisor: Supervisor, error: type[Exception], *, timeout: float | None = None) -> None:
    """Make sure that a call and a dispense fail with `error`, and long before any default deadline."""
    from supervisor.host.call import PluginChannel  # noqa: PLC0415  # a stub for a plugin that was never ready

    (name,) = supervisor.plugins
    store = KvStub(PluginChannel(supervisor._running.find(name)))  # type: ignore[arg-type]  # it is called like one
    async with asyncio.timeout(5):
        with pytest.raises(error) as caught:
            await store.get(GetRequest(key="a"), timeout=timeout)
    assert getattr(caught.value, "plugin", None) == name
    assert not getattr(caught.value, "maybe_executed", False)


async def test_row_58_call_while_starting(supervise: Supervise, evil: MakeSpec) -> None:
    """A call to a plugin that does not come up ends with its own deadline, or with ready_timeout."""
    async with supervise(evil("hang", ready_timeout=0.1, stop=QUICK)) as supervisor:
        await until_state(State.STARTING, supervisor)
        await expect_bounded(supervisor, DeadlineExceededError, timeout=0.05)
        await expect_bounded(supervisor, PluginUnavailableError)


async def test_row_58_call_during_backoff(supervise: Supervise, evil: MakeSpec) -> None:
    """The same while the supervisor waits to restart it."""
    policy = RestartPolicy(backoff=Backoff(initial=10, ceiling=10, factor=1), intensity=RestartIntensity(limit=3))
    async with supervise(evil("exit", "1", ready_timeout=0.1, restart=policy)) as supervisor:
        await until(lambda: supervisor.plugin("evil").restarts == 2, supervisor)
        assert supervisor.plugin("evil").state is State.BACKOFF
        await expect_bounded(supervisor, DeadlineExceededError, timeout=0.05)
        await expect_bounded(supervisor, PluginUnavailableError)


async def test_row_58_call_that_may_not_wait(supervise: Supervise, evil: MakeSpec) -> None:
    """With while_restarting = "fail" it fails at once, whatever ready_timeout says."""
    policy = RestartPolicy(backoff=Backoff(initial=10, ceiling=10, factor=1), intensity=RestartIntensity(limit=3))
    async with supervise(evil("exit", "1", while_restarting="fail", restart=policy)) as supervisor:
        await until(lambda: supervisor.plugin("evil").restarts == 2, supervisor)
        began = asyncio.get_running_loop().time()
        await expect_bounded(supervisor, PluginUnavailableError)
        assert asyncio.get_running_loop().time() - began < 1


async def test_row_58_call_after_giving_up(supervise: Supervise, evil: MakeSpec) -> None:
    """A call to a plugin that was given up on fails at once, with the last report."""
    policy = RestartPolicy(intensity=RestartIntensity(limit=0))
    async with supervise(evil("exit", "3", restart=policy)) as supervisor:
        await until_state(State.FAILED, supervisor)
        await expect_bounded(supervisor, PluginFailedError)


async def test_row_58_call_while_stopped(supervise: Supervise, kv: MakeSpec) -> None:
    """A call to a plugin that was stopped on purpose fails at once, and one that waits when the stop comes does too."""
    async with supervise(kv()) as supervisor:
        waiting = asyncio.create_task(expect_bounded(supervisor, PluginUnavailableError))
        await until_state(State.STARTING, supervisor)
        await supervisor.plugin("store").stop()
        await waiting
        await expect_bounded(supervisor, PluginStoppedError)


async def test_row_58_call_waits_for_the_next_life(supervise: Supervise, kv: MakeSpec) -> None:
    """A call that finds the plugin between two lives is answered by the next one."""
    async with supervise(kv(restart=AGAIN)) as supervisor:
        store = await supervisor.dispense(KvStub)
        first = (await store.get(GetRequest(key="pid"))).value
        kill(supervisor)
        await exit_of(supervisor)
        assert supervisor.plugin("store").state is not State.READY
        assert (await store.get(GetRequest(key="pid"))).value != first


# --- row 59 ------------------------------------------------------------------------------------------------------------


async def test_row_59_at_most_once(supervise: Supervise, kv: MakeSpec, tmp_path: Path) -> None:
    """Four crashes under 200 calls each: what succeeded ran once, what may have run did so once at most, the rest never."""
    history = tmp_path / "history"
    outcomes: dict[str, object] = {}

    async def put(key: str) -> None:
        try:
            outcomes[key] = await store.put(PutRequest(key=key, value=b"x"))
        except PluginUnavailableError as error:
            outcomes[key] = error
        done.release()

    async with supervise(kv("--history", str(history), restart=AGAIN)) as supervisor:
        store = await supervisor.dispense(KvStub)
        for crash in range(4):
            await supervisor.plugin("store").ready()
            done = asyncio.Semaphore(0)
            async with asyncio.TaskGroup() as tasks:
                for number in range(200):
                    tasks.create_task(put(f"{crash}-{number}"))
                for _ in range(1 + 30 * crash):
                    await done.acquire()
                kill(supervisor)
    ran = Counter(history.read_text().split())  # a small file, after all is over
    assert len(outcomes) == 800
    assert set(ran) <= set(outcomes)
    for key, outcome in outcomes.items():
        match outcome:
            case PluginUnavailableError(maybe_executed=True):
                assert ran[key] <= 1
            case PluginUnavailableError():
                assert ran[key] == 0
            case _:
                assert ran[key] == 1
    assert any(isinstance(outcome, PluginCrashedError) for outcome in outcomes.values())


@pytest.mark.parametrize("engine", ["lean", "grpclib"])
async def test_row_59_call_in_the_turn_in_which_a_write_failed(
    supervise: Supervise, kv: MakeSpec, engine: Engine
) -> None:
    """The socket is known to be broken a turn before the connection's end is told: who calls then waits for the next life."""
    async with supervise(kv(restart=AGAIN, engine=engine)) as supervisor:
        store = await supervisor.dispense(KvStub)
        keeper = supervisor._run.keepers["store"]  # type: ignore[union-attr]  # it runs
        kill(supervisor)
        channel: Any = keeper.instance.channel  # type: ignore[union-attr]  # it is ready
        transport_of(channel._protocol if engine == "grpclib" else channel.wire).abort()  # as a failed write does
        await store.put(PutRequest(key="a", value=b"x"))
        assert keeper.generation == 2


async def test_row_59_crash_after_the_request_arrived(supervise: Supervise, kv: MakeSpec, tmp_path: Path) -> None:
    """A request that killed the plugin is not sent again, unless its method is marked idempotent."""
    history = tmp_path / "history"
    async with supervise(kv("--history", str(history), restart=AGAIN)) as supervisor:
        store = await supervisor.dispense(KvStub)
        with pytest.raises(PluginCrashedError) as caught:
            await store.get(GetRequest(key="crash:5"))
        assert caught.value.maybe_executed
        await store.get(GetRequest(key="after"))
    assert history.read_text().split() == ["crash:5", "after"]  # a small file, after all is over


async def test_row_59_idempotent_method_is_sent_again(supervise: Supervise, kv: MakeSpec, tmp_path: Path) -> None:
    """A call of an idempotent method outlives a crash: it hangs in the first life and is sent again to the second."""
    history = tmp_path / "history"
    spec = kv("--history", str(history), restart=AGAIN, idempotent=frozenset({"/proto.KV/Get"}))
    async with supervise(spec) as supervisor:
        store = await supervisor.dispense(KvStub)
        call = asyncio.create_task(store.get(GetRequest(key="hang"), timeout=60))
        await store.get(GetRequest(key="hanging:1"))
        kill(supervisor)
        await store.get(GetRequest(key="hanging:1"))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert history.read_text().split().count("hang") == 2  # a small file, after all is over
