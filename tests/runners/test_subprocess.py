# Descriptors and processes are listed as the kernel names them; blocking for a moment hurts nobody here.
# ruff: noqa: ASYNC220, ASYNC222, ASYNC240

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.abc import ByteSource, LaunchedProcess, Runner
from supervisor.errors import LaunchError
from supervisor.outcome import ExitStatus
from supervisor.runners.lineage import VARIABLE
from supervisor.runners.subprocess import SubprocessProcess, SubprocessRunner
from supervisor.spec import PluginSpec

Launch = Callable[..., Awaitable[SubprocessProcess]]
ReadLine = Callable[[ByteSource], Awaitable[str]]
ReadJson = Callable[[ByteSource], Awaitable[dict[str, Any]]]


def test_the_ports_are_honoured(runner: SubprocessRunner) -> None:
    """The runner and its process are what the host wing asks for; the type checker holds us to it."""
    port: Runner = runner
    process: type[LaunchedProcess] = SubprocessProcess

    assert port is runner
    assert process is SubprocessProcess


async def test_row_79_the_environment_is_exactly_what_was_asked_for(
    launch: Launch, read_json: ReadJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin's own view of its environment: allowlist, `env`, protocol, lineage, and not one name more."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in ("PATH", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_X", "PYTHONPATH", "PLUGIN_CLIENT_CERT", "LC_ALL"):
        monkeypatch.setenv(name, "C" if name == "LC_ALL" else "/usr/bin")
    process = await launch("report.py", env={"OWN": "1"}, variables={"PLUGIN_PROTOCOL_VERSIONS": "1"})

    report = await read_json(process.stdout)

    assert set(report["env"]) == {
        "PATH", "LC_ALL", "OWN", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_LIFELINE", VARIABLE
    }  # fmt: skip
    assert report["env"]["PLUGIN_UNIX_SOCKET_DIR"] == process.directory


async def test_row_80_only_the_standard_descriptors_arrive(launch: Launch, read_json: ReadJson) -> None:
    """A descriptor that the host left inheritable stays with the host."""
    leaky = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaky, True)  # noqa: FBT003 - the signature is the os module's
    try:
        process = await launch("report.py")
        assert set((await read_json(process.stdout))["fds"]) == {0, 1, 2}
    finally:
        os.close(leaky)


async def test_row_84_arguments_are_never_a_shell_line(launch: Launch, read_json: ReadJson, tmp_path: Path) -> None:
    """Shell metacharacters arrive as they are and do nothing."""
    arguments = ["; touch pwned", "$(touch pwned)", "`touch pwned`", "a b", "*", ""]
    process = await launch("report.py", *arguments, cwd=str(tmp_path))

    report = await read_json(process.stdout)

    assert report["argv"] == arguments
    assert report["cwd"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_row_38_a_plugin_has_a_session_of_its_own(launch: Launch, read_json: ReadJson) -> None:
    """Ctrl-C in the host's terminal is for the host: the plugin leads another session and group."""
    process = await launch("report.py")
    report = await read_json(process.stdout)

    assert report["sid"] == report["pgid"] == process.pid != os.getsid(0)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (("exit", "0"), ExitStatus(code=0)),
        (("exit", "255"), ExitStatus(code=255)),
        (("signal", "9"), ExitStatus(signal=9)),
        (("signal", "11"), ExitStatus(signal=11)),
        (("signal", "6"), ExitStatus(signal=6)),
    ],
)
@pytest.mark.parametrize("use_pidfd", [True, False], ids=["pidfd", "thread"])
async def test_row_17_the_end_is_told_as_the_kernel_tells_it(
    launch: Launch, way: tuple[str, str], expected: ExitStatus, use_pidfd: bool
) -> None:
    """Exit codes and signals arrive, with a pidfd and with the thread that stands in for it, to every waiter."""
    runner = SubprocessRunner(guard=False, use_pidfd=use_pidfd)
    try:
        process = await launch("ends.py", *way, on=runner)
        async with asyncio.timeout(10):
            one, other = await asyncio.gather(process.wait(), process.wait())
        assert one == other == expected
        assert await process.wait() == expected
    finally:
        runner.close()


async def test_row_17_the_end_is_noticed_at_once(launch: Launch, read_line: ReadLine) -> None:
    """From SIGKILL to `wait()` returning takes less than 50 ms (the median of nine)."""
    delays = []
    for _ in range(9):
        process = await launch("ends.py", "wait")
        await read_line(process.stdout)
        start = time.perf_counter()
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        delays.append(time.perf_counter() - start)
        process.close()

    assert sorted(delays)[4] < 0.05


async def test_waiting_can_be_cancelled(launch: Launch, read_line: ReadLine) -> None:
    """A waiter that gives up takes nothing with it: the next one gets the status."""
    process = await launch("ends.py", "wait")
    await read_line(process.stdout)
    with anyio.move_on_after(0):
        await process.wait()
    waiter = asyncio.create_task(process.wait())
    await asyncio.sleep(0)
    waiter.cancel()
    with suppress(asyncio.CancelledError):
        await waiter

    process.send_signal(signal.SIGTERM)

    assert await process.wait() == ExitStatus(signal=signal.SIGTERM)


async def test_row_27_what_ignores_the_polite_signals_is_killed(launch: Launch, read_line: ReadLine) -> None:
    """SIGTERM, SIGINT and SIGHUP leave it alive, `kill_tree()` does not."""
    process = await launch("stubborn.py")
    await read_line(process.stdout)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    assert process._child.peek() is None

    process.kill_tree()

    async with asyncio.timeout(1):
        assert await process.wait() == ExitStatus(signal=signal.SIGKILL)


async def test_row_28_a_stopped_process_is_killed(launch: Launch, read_line: ReadLine) -> None:
    """SIGSTOP holds SIGTERM back but not the kill."""
    process = await launch("ends.py", "wait")
    await read_line(process.stdout)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)

    process.kill_tree()

    async with asyncio.timeout(1):
        assert await process.wait() == ExitStatus(signal=signal.SIGKILL)


async def test_row_29_grandchildren_that_hold_the_pipes_delay_nothing(
    launch: Launch, read_json: ReadJson, witness: Any
) -> None:
    """The leader's end is known while its children keep stdout and stderr open, and they can be killed after it."""
    process = await launch("family.py", "3")
    pids = await read_json(process.stdout)
    witness.watch(*(pids[kind] for kind in ("plain", "group", "session", "orphan")))

    async with asyncio.timeout(0.3):
        assert await process.wait() == ExitStatus(code=3)
    assert len(witness.survivors(within=0)) == 4
    process.kill_tree()

    assert witness.survivors(within=0.1) == set()
    async with asyncio.timeout(1):
        with pytest.raises(anyio.EndOfStream):
            await process.stdout.receive()


async def test_row_30_the_whole_tree_is_killed(launch: Launch, read_json: ReadJson, witness: Any) -> None:
    """Children in another group, in another session, and orphaned ones die within 100 ms; other plugins do not."""
    bystander = await launch("ends.py", "wait")
    process = await launch("family.py")
    pids = await read_json(process.stdout)
    witness.watch(*pids.values())

    process.kill_tree()

    assert witness.survivors(within=0.1) == set()
    assert bystander._child.peek() is None


async def test_row_31_children_without_a_lineage_die_if_they_stay_in_the_session(
    launch: Launch, read_json: ReadJson, witness: Any
) -> None:
    """A child with an emptied environment is found through the session of the dead leader."""
    code = (
        "import json,os,subprocess,sys\n"
        "child = subprocess.Popen(['sleep', '1000'], env={}, process_group=0)\n"
        "print(json.dumps({'child': child.pid}), flush=True)\n"
        "os._exit(0)\n"
    )
    process = await launch(sys.executable, "-c", code)
    witness.watch((await read_json(process.stdout))["child"])
    await process.wait()

    process.kill_tree()

    assert witness.survivors(within=0.1) == set()


async def test_row_35_every_way_to_end_it_may_be_repeated(launch: Launch, read_line: ReadLine) -> None:
    """Signals after the end, kills after the kill and closes after the close do nothing and raise nothing."""
    process = await launch("ends.py", "wait")
    await read_line(process.stdout)
    for _ in range(3):
        process.kill_tree()
        process.send_signal(signal.SIGTERM)
    status = await process.wait()
    for _ in range(2):
        process.close()
        process.kill_tree()
        process.send_signal(signal.SIGKILL)

    assert status == await process.wait() == ExitStatus(signal=signal.SIGKILL)


async def test_closing_kills_and_tells_the_waiters(launch: Launch, read_line: ReadLine) -> None:
    """`close()` alone, under a waiter and a reader, ends the process, wakes both and removes the directory."""
    process = await launch("stubborn.py")
    await read_line(process.stdout)
    waiter = asyncio.create_task(process.wait())
    reader = asyncio.create_task(process.stderr.receive())
    await asyncio.sleep(0)

    process.close()

    async with asyncio.timeout(1):
        assert await waiter == ExitStatus(signal=signal.SIGKILL)
        with pytest.raises(anyio.ClosedResourceError):
            await reader
    assert not Path(process.directory).exists()


async def test_an_ended_leader_keeps_its_pid_until_its_tree_is_killed(launch: Launch) -> None:
    """Between the end and the kill nobody else can get the pid, so the kill of the group hits nobody else."""
    process = await launch("ends.py", "exit", "0")
    await process.wait()
    assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    process.kill_tree()

    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, errno.ENOENT), ("", errno.ENOEXEC), ("echo hello\n", errno.ENOEXEC), ("#!/nowhere\n", errno.ENOENT)],
)
async def test_row_1_a_bad_program_is_a_typed_error_and_leaves_nothing(
    launch: Launch, tmp_path: Path, content: str | None, expected: int
) -> None:
    """A hundred tries: each fails in no time with number and hint, and not one descriptor is gone at the end."""
    path = tmp_path / "program"
    if content is not None:
        path.write_text(content)
        path.chmod(0o755)
    process = await launch("/bin/true")  # what the runner holds for all instances is held from here on
    process.close()
    descriptors = set(os.listdir("/proc/self/fd"))
    start = time.perf_counter()
    for _ in range(100):
        with pytest.raises(LaunchError) as caught:
            await launch(str(path))
    took = time.perf_counter() - start

    assert (caught.value.errno, caught.value.plugin, caught.value.phase) == (expected, "evil", "launch")
    assert caught.value.hint
    assert took / 100 < 0.05
    assert set(os.listdir("/proc/self/fd")) == descriptors


async def test_row_1_what_the_kernel_cannot_carry_is_a_typed_error(launch: Launch) -> None:
    """An argument that is too long, a NUL and a `=` in a name are refused with their numbers."""
    for variables, arguments, expected in (
        ({}, ("x" * 4_000_000,), errno.E2BIG),
        ({"A": "nul \0"}, (), errno.EINVAL),
        ({"A=B": "1"}, (), errno.EINVAL),
        ({"A": "\udfff\ud800"}, (), errno.EINVAL),
    ):
        with pytest.raises(LaunchError) as caught:
            await launch("/bin/true", *arguments, variables=variables)
        assert caught.value.errno == expected


async def test_row_1_a_bad_working_directory_is_a_typed_error(launch: Launch, tmp_path: Path) -> None:
    """The message names the directory, not the program."""
    with pytest.raises(LaunchError, match="nowhere") as caught:
        await launch("/bin/true", cwd=str(tmp_path / "nowhere"))

    assert caught.value.errno == errno.ENOENT


def _limit_free_descriptors(free: int) -> None:
    """Lower the limit so that exactly `free` descriptors are left."""
    used = {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
    limit = free
    while limit - len([number for number in used if number < limit]) < free:
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


async def test_row_65_too_few_descriptors_is_a_typed_error_at_any_headroom() -> None:
    """With 0, 1, 2 ... descriptors left a launch fails cleanly, until it succeeds; nothing is left each time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spec = PluginSpec(name="evil", command=("/bin/sleep", "1000"))
    failures, launched = 0, False
    descriptors = set(os.listdir("/proc/self/fd"))
    for free in range(40):
        runner = SubprocessRunner()
        _limit_free_descriptors(free)
        try:
            await runner.launch(spec, generation=1, variables={})
            launched = True
        except LaunchError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 - success is an outcome too
            failures += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            runner.close()
        assert set(os.listdir("/proc/self/fd")) == descriptors
        if launched:
            break

    assert launched
    assert failures > 10


async def test_row_40_an_ignored_sigchld_hides_the_status_but_not_the_end(launch: Launch) -> None:
    """When the kernel reaps for an application that ignores SIGCHLD, the status is unknown, not 0 and not 255."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = await launch("ends.py", "exit", "3")
        async with asyncio.timeout(10):
            status = await process.wait()
        process.close()
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert status == ExitStatus()
    assert not status.known


@pytest.mark.parametrize("use_pidfd", [True, False], ids=["pidfd", "thread"])
async def test_row_40_somebody_else_may_reap(launch: Launch, use_pidfd: bool) -> None:
    """An application that waits for any child takes the status, and the end is noticed all the same."""
    runner = SubprocessRunner(guard=False, use_pidfd=use_pidfd)
    try:
        process = await launch("ends.py", "exit", "3", on=runner)
        os.waitpid(-1, 0)
        async with asyncio.timeout(10):
            status = await process.wait()
        process.kill_tree()
    finally:
        runner.close()

    # The thread may have seen the status before it was taken.
    assert status in ({ExitStatus()} if use_pidfd else {ExitStatus(), ExitStatus(code=3)})


def test_row_74_a_process_that_nobody_closed_is_killed(witness: Any) -> None:
    """The loop ends, the references go: a ResourceWarning, and the process is dead."""

    async def forget(runner: SubprocessRunner) -> None:
        process = await runner.launch(PluginSpec(name="a", command=("sleep", "1000")), generation=1, variables={})
        witness.watch(process.pid)

    runner = SubprocessRunner(guard=False)
    asyncio.run(forget(runner))
    with pytest.warns(ResourceWarning, match="unclosed <SubprocessProcess"):
        gc.collect()

    assert witness.survivors(within=0) == set()
    runner.close()


async def test_a_closed_runner_launches_nothing() -> None:
    """Closing twice is fine; launching afterwards is an error and not a leak."""
    runner = SubprocessRunner(guard=False)
    runner.close()
    runner.close()

    with pytest.raises(LaunchError, match="closed"):
        await runner.launch(PluginSpec(name="a", command=("/bin/true",)), generation=1, variables={})


async def test_closing_the_runner_closes_what_it_launched(launch: Launch, witness: Any) -> None:
    """Whoever forgets a process is covered by the runner."""
    runner = SubprocessRunner(guard=False)
    witness.watch((await launch("ends.py", "wait", on=runner)).pid)

    runner.close()

    assert witness.survivors(within=0) == set()


async def test_a_launch_that_is_cancelled_starts_nothing(runner: SubprocessRunner) -> None:
    """The only suspension is before the start: a cancelled launch has created neither process nor directory."""
    task = asyncio.create_task(
        runner.launch(PluginSpec(name="a", command=("sleep", "1000")), generation=1, variables={})
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not runner._instances
    assert runner._directory.path is None


async def test_the_parent_death_signal_is_set(launch: Launch, read_json: ReadJson) -> None:
    """The program itself, not a launcher in front of it, is what the kernel kills when the host dies."""
    code = (
        "import ctypes, json, os\n"
        "number = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(number))\n"
        "print(json.dumps({'signal': number.value, 'pid': os.getpid()}), flush=True)\n"
    )
    process = await launch(sys.executable, "-c", code)

    assert await read_json(process.stdout) == {"signal": signal.SIGKILL, "pid": process.pid}


@pytest.mark.parametrize(
    "act",
    [
        lambda process: process.send_signal(signal.SIGTERM),
        lambda process: process.kill_tree(),
        lambda process: process.close(),
    ],
    ids=["send_signal", "kill_tree", "close"],
)
async def test_row_34_a_recycled_pid_is_not_hit(
    launch: Launch, read_line: ReadLine, act: Callable[[SubprocessProcess], None]
) -> None:
    """The child was reaped behind our back and its pid given to a stranger, group and all: the stranger lives."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    try:
        last.write_text(last.read_text())
    except OSError:
        pytest.skip("needs to write ns_last_pid")
    for _ in range(50):
        process = await launch("ends.py", "wait")
        await read_line(process.stdout)
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        last.write_text(str(process.pid - 1))
        stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        try:
            act(process)
            alive = stranger.poll() is None
            process.close()
            alive = alive and stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()
        assert alive
        if stranger.pid == process.pid:
            return
    pytest.skip("the pid went to somebody else each time")


def test_row_41_a_forked_worker_leaves_the_plugins_alone(tmp_path: Path) -> None:
    """A child forked from the host closes, kills and collects what it inherited, and the plugin lives on."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "forking_host.py")], capture_output=True, timeout=30, check=False
    )

    assert json.loads(done.stdout) == {"worker": 0, "plugin_runs": True, "directory_exists": True}, done.stderr
    assert done.stderr == b""
