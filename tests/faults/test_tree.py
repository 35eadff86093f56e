"""Rows 30, 31, 33, 34 and 40 of the fault table: a plugin's children, pids, and who else waits for them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kv_proto import GetRequest, KvStub
from watching import Log, until
from witness import Witness

from supervisor import (
    PluginCrashedError,
    PluginSpec,
    Restart,
    RestartIntensity,
    RestartPolicy,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.events import InstanceExited, StateChanged, StopRung
from supervisor.outcome import ExitReason
from supervisor.policy import Backoff

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

ONCE = RestartPolicy(restart=Restart.TEMPORARY)
OFTEN = RestartPolicy(restart=Restart.PERMANENT, intensity=RestartIntensity(limit=100), backoff=Backoff(ceiling=0.2))
SERVING = ("listen", "{dir}/s", "handshake", "{dir}/s", "accept", "greet")


async def line_of(supervisor: Supervisor, name: str) -> str:
    """Return the plugin's next line; bounded."""
    with supervisor.plugin(name).logs() as records:
        async with asyncio.timeout(20):
            return (await anext(records)).event


async def until_ended(log: Log, name: str, life: int, supervisor: Supervisor) -> InstanceExited:
    """Wait for the end of a life and return its event."""

    def ends() -> list[InstanceExited]:
        return [event for event in log.of(InstanceExited) if (event.plugin, event.generation) == (name, life)]

    await until(lambda: bool(ends()), supervisor)
    return ends()[0]


# --- row 30 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store_and_family(kv: MakeSpec, evil: MakeSpec) -> list[PluginSpec]:
    """Return a store that can be told to spawn, and another plugin that does so by itself."""
    return [kv(restart=OFTEN), evil(*SERVING, "family", "hang", health=None)]


@pytest.mark.parametrize("how", ["stop", "restart", "crash", "exit"])
async def test_row_30_whole_tree_is_gone(
    supervise: Supervise, store_and_family: list[PluginSpec], log: Log, witness: Witness, how: str
) -> None:
    """Plain, setpgid, setsid and double-forked grandchildren die within 100 ms of the plugin, however it ended: best of three.

    Another plugin, and its family, live on.
    """
    late = []
    async with supervise(*store_and_family) as supervisor:
        bystanders = json.loads(await line_of(supervisor, "evil")).values()
        plugin = supervisor.plugin("store")
        stub = await supervisor.dispense("store", KvStub)
        for _ in range(3):
            await plugin.start()
            life = plugin.generation
            witness.watch(*json.loads((await stub.get(GetRequest(key="spawn"))).value).values(), plugin.pid or 0)
            last_death = asyncio.create_task(witness.last_death(within=20))
            await end(supervisor, how, stub)
            late.append(await last_death - moment_of_exit(log, "store", life))
        witness.watch(*bystanders)
        assert len(witness.survivors()) == 5
        assert supervisor.plugin("evil").generation == 1
    assert witness.survivors() == set()
    assert min(late) <= 0.1


def moment_of_exit(log: Log, name: str, life: int) -> float:
    """Return when the kernel told of the end of the plugin's own process."""
    changes = [change for change in log.of(StateChanged) if (change.plugin, change.generation) == (name, life)]
    return next(change.at for change in changes if change.new is State.EXITED)


async def end(supervisor: Supervisor, how: str, stub: KvStub) -> None:
    """End the store in this way."""
    plugin = supervisor.plugin("store")
    match how:
        case "stop":
            await plugin.stop()
        case "restart":
            await plugin.restart()
        case "crash":
            os.kill(plugin.pid or 0, signal.SIGKILL)
        case "exit":
            with pytest.raises(Exception, match="in flight"):
                await stub.get(GetRequest(key="crash:0"))


async def test_row_30_children_do_not_outlive_a_leader_that_leaves_them(
    supervise: Supervise, evil: MakeSpec, log: Log, witness: Witness
) -> None:
    """A plugin that exits with 0 and leaves its children to hold its pipes has left nobody 100 ms later: best of three."""
    late = []
    policy = RestartPolicy(restart=Restart.TRANSIENT)
    spec = evil(*SERVING, "family", "wait", "0.2", "exit", "0", health=None, restart=policy)
    async with supervise(spec) as supervisor:
        for life in (1, 2, 3):
            line = asyncio.create_task(line_of(supervisor, "evil"))
            await asyncio.gather(line, supervisor.plugin("evil").start())
            witness.watch(*json.loads(line.result()).values())
            ended = await until_ended(log, "evil", life, supervisor)
            late.append(await witness.last_death(within=5) - moment_of_exit(log, "evil", life))
            assert (ended.report.reason, ended.report.status.code) == (ExitReason.EXITED, 0)
    assert min(late) <= 0.1


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_row_31_child_without_environment(
    supervise: Supervise, evil: MakeSpec, log: Log, witness: Witness, how: str
) -> None:
    """A child with an emptied environment and a group of its own is found by its session.

    One that has left the session as well is found by nobody without a control group; the documentation says so.
    """
    spec = evil(*SERVING, "bare-child", "hang", health=None, stop=StopPolicy(shutdown=0.05), restart=ONCE)
    async with supervise(spec) as supervisor:
        witness.watch(int(await line_of(supervisor, "evil")))
        await supervisor.ready()
        if how == "stop":
            await supervisor.plugin("evil").stop()
        else:
            os.kill(supervisor.plugin("evil").pid or 0, signal.SIGKILL)
        await until_ended(log, "evil", 1, supervisor)
        await witness.last_death(within=1)


# --- row 33 ------------------------------------------------------------------------------------------------------------

BOMB = "(while setsid sleep 1000 & do :; done) 2>/dev/null; echo full >&2; exec sleep 1000"
"""Start processes, each in a session of its own, until the kernel refuses, and stay."""

MARK = {"OF_THIS_TEST": f"run-{os.getpid()}"}

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="becomes another user: the kernel limits no processes of root"
)


@needs_root
async def test_row_33_fork_bomb(supervise: Supervise, kv: MakeSpec, log: Log, witness: Witness) -> None:
    """A plugin that forks up to RLIMIT_NPROC is ended with all of it; meanwhile the host starts and calls others."""
    limited = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "prlimit", "--nproc=100")
    command = (*limited, "/bin/sh", "-c", BOMB)
    bomb = PluginSpec(name="bomb", command=command, env=MARK, restart=ONCE, stop=StopPolicy(terminate=0.2))
    async with supervise(bomb, kv()) as supervisor:
        assert await line_of(supervisor, "bomb") == "full"
        members = marked()
        assert len(members) > 50
        witness.watch(*members)
        stub = await supervisor.dispense("store", KvStub)
        await supervisor.plugin("store").restart()
        assert int((await stub.get(GetRequest(key="pid"))).value) == supervisor.plugin("store").pid
        await supervisor.plugin("bomb").stop()
        assert witness.survivors(within=1) == set()
        assert marked() == set()
        assert (await stub.get(GetRequest(key="a"))).value == b""
    assert next(event.rung for event in log.of(StopRung) if event.plugin == "bomb") == "terminate"


async def test_row_33_growing_tree_is_caught(supervise: Supervise) -> None:
    """A tree that doubles five times, each child in a session of its own, is gone when a stop in its midst is done."""
    grow = "import os, signal\nos.write(2, b'growing\\n')\nfor _ in range(5):\n if os.fork() == 0: os.setsid()\n"
    stay = "signal.alarm(30)\nwhile True: signal.pause()"  # the alarm is for a test that fails
    command = (sys.executable, "-I", "-S", "-c", grow + stay)
    async with supervise(PluginSpec(name="tree", command=command, env=MARK, restart=ONCE)) as supervisor:
        assert await line_of(supervisor, "tree")
        await supervisor.plugin("tree").stop()
        assert marked() == set()


def marked() -> set[int]:
    """Return the processes that carry the mark, zombies excepted."""
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and f"run-{os.getpid()}\0".encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
    return found


# --- rows 34 and 40 ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ignored_sigchld() -> Iterator[None]:
    """Ignore SIGCHLD, as an embedding application may: the kernel then reaps all children at once."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@contextmanager
def stranger_at(pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """Kill a child, take its status away, and start a stranger that gets its pid, if nobody else does."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        yield stranger
    finally:
        stranger.kill()
        stranger.wait()


@needs_root
@pytest.mark.parametrize("order", ["stop", "restart", "nothing"])
async def test_row_34_recycled_pid_is_not_hit(supervise: Supervise, evil: MakeSpec, log: Log, order: str) -> None:
    """The plugin was reaped behind our back and its pid is a stranger's, group and session too: the stranger lives.

    Tried until the pid is met once, instead of 1,000 times.
    """
    hurry = StopPolicy(shutdown=0.05, terminate=0.05)
    async with supervise(evil(*SERVING, "hang", health=None, stop=hurry, restart=OFTEN)) as supervisor:
        plugin = supervisor.plugin("evil")
        for _ in range(50):
            await plugin.start()
            pid, life = plugin.pid or 0, plugin.generation
            with stranger_at(pid) as stranger:
                if order == "stop":
                    await plugin.stop()
                elif order == "restart":
                    await plugin.restart()
                ended = await until_ended(log, "evil", life, supervisor)
                assert stranger.poll() is None
                assert not ended.report.status.known
            if stranger.pid == pid:
                return
    pytest.fail("the pid went to somebody else fifty times")


async def test_row_40_ignored_sigchld(supervise: Supervise, kv: MakeSpec, log: Log, ignored_sigchld: None) -> None:
    """The end is noticed within 50 ms, the status is unknown and says so, and the plugin is restarted: best of three."""
    late = []
    async with supervise(kv(restart=OFTEN)) as supervisor:
        stub = await supervisor.dispense(KvStub)
        for life in (1, 2, 3):
            assert (await stub.get(GetRequest(key="a"))).value == b""
            began = asyncio.get_running_loop().time()
            os.kill(supervisor.plugin("store").pid or 0, signal.SIGKILL)
            ended = await until_ended(log, "store", life, supervisor)
            late.append(moment_of_exit(log, "store", life) - began)
            assert_unknown(ended)
        assert (await stub.get(GetRequest(key="a"))).value == b""
        await supervisor.plugin("store").stop()
    assert min(late) <= 0.05
    stopped = log.of(InstanceExited)[-1].report
    assert (stopped.reason, stopped.failed, stopped.status.known) == (ExitReason.STOPPED, False, False)


async def test_row_40_somebody_else_waits_for_any_child(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """An application that waits for any child takes the status away, but not the end, nor the next life."""
    async with supervise(kv(restart=OFTEN)) as supervisor:
        stub = await supervisor.dispense(KvStub)
        call = asyncio.create_task(stub.get(GetRequest(key="hang")))
        await stub.get(GetRequest(key="hanging:1"))
        os.kill(supervisor.plugin("store").pid or 0, signal.SIGKILL)
        os.waitpid(-1, 0)  # noqa: ASYNC222  # before the loop can notice: that is the point
        with pytest.raises(PluginCrashedError, match="status unknown"):
            await call
        ended = await until_ended(log, "store", 1, supervisor)
        assert_unknown(ended)
        assert (await stub.get(GetRequest(key="a"))).value == b""
        assert supervisor.plugin("store").generation == 2


def assert_unknown(ended: InstanceExited) -> None:
    """The status is flagged as unknown, not taken for an exit code; and the end counts as a failure."""
    report = ended.report
    assert (report.reason, report.status.code, report.status.signal) == (ExitReason.UNKNOWN, None, None)
    assert not report.status.known
    assert report.failed
    assert "status unknown" in str(report)
