"""Rows 1 to 3 and 8 of the fault table: programs that cannot be started, end before they speak, or say nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kv_proto import KvStub
from watching import Log, descriptors, exit_of, until_state

from supervisor import PluginFailedError, PluginSpec, Restart, RestartPolicy, State, Supervisor
from supervisor.errors import ConfigurationError, HandshakeTimeoutError, LaunchError
from supervisor.events import InstanceExited, InstanceLaunched, PluginGaveUp
from supervisor.outcome import ExitReason
from supervisor.spec import MagicCookie

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

ONCE = RestartPolicy(restart=Restart.TEMPORARY)


def unstartable(tmp_path: Path, what: str) -> PluginSpec:
    """Return the specification of a plugin that the kernel will not start."""
    file = tmp_path / "program"
    file.write_bytes(b"\x7fELF, but no more than that")
    file.chmod(0o755)
    command, cwd, env = [str(file)], None, {}
    match what:
        case "missing":
            command = [str(tmp_path / "nobody")]
        case "not executable":
            file.chmod(0o644)
        case "directory":
            command = [str(tmp_path)]
        case "arguments too long":
            command = [sys.executable, "x" * (1 << 22)]
        case "environment too long":
            command, env = [sys.executable], {"X": "x" * (1 << 22)}
        case "cwd missing":
            command, cwd = [sys.executable], str(tmp_path / "nowhere")
    return PluginSpec(name="bad", command=tuple(command), cwd=cwd, env=env)


UNSTARTABLE = {
    "missing": errno.ENOENT,
    "not executable": errno.EACCES,
    "directory": errno.EACCES,
    "unknown format": errno.ENOEXEC,
    "arguments too long": errno.E2BIG,
    "environment too long": errno.E2BIG,
    "cwd missing": errno.ENOENT,
}


@pytest.mark.parametrize("what", UNSTARTABLE)
async def test_row_1_program_that_cannot_be_started(supervise: Supervise, log: Log, tmp_path: Path, what: str) -> None:
    """A program that cannot run fails within 50 ms with errno and hint, and is not tried again."""
    async with supervise(unstartable(tmp_path, what)) as supervisor:
        began = asyncio.get_running_loop().time()
        with pytest.raises(PluginFailedError) as caught:
            await supervisor.dispense("bad", KvStub)
        assert caught.value.report is not None
        error = caught.value.report.error
        assert isinstance(error, LaunchError)
        assert error.errno == UNSTARTABLE[what]
        assert error.hint
        assert caught.value.report.reason is ExitReason.LAUNCH
        assert (supervisor.plugin("bad").state, supervisor.plugin("bad").generation) == (State.FAILED, 1)
        (gave_up,) = log.of(PluginGaveUp)
        assert os.strerror(UNSTARTABLE[what]).lower() in gave_up.cause.lower() or error.args[0] in gave_up.cause
        assert min([gave_up.at - began] + [await time_a_try(supervisor) for _ in range(4)]) <= 0.05


async def time_a_try(supervisor: Supervisor) -> float:
    """Return the seconds from a restart's order to the failure."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(PluginFailedError):
        await supervisor.plugin("bad").restart()
    return loop.time() - began


async def test_row_1_a_hundred_refusals_cost_no_descriptor(supervise: Supervise, tmp_path: Path) -> None:
    """After 100 failed launches as many descriptors are open as after one."""
    async with supervise(unstartable(tmp_path, "unknown format")) as supervisor:
        await until_state(State.FAILED, supervisor)
        before = descriptors()
        for _ in range(100):
            await time_a_try(supervisor)
        assert descriptors() == before
        assert supervisor.plugin("bad").generation == 101


def test_row_1_nul_is_refused_by_the_specification() -> None:
    """What no kernel interface can carry is a ConfigurationError before anything runs."""
    for fields in ({"command": ("a\0b",)}, {"command": ("a",), "env": {"X": "\0"}}, {"command": ("a",), "cwd": "\0"}):
        with pytest.raises(ConfigurationError, match="NUL") as caught:
            PluginSpec(**{"name": "bad", **fields})  # type: ignore[arg-type]  # the fields are of several types
        assert caught.value.hint


@pytest.mark.parametrize(
    ("deeds", "code", "number"),
    [
        (("exit", "0"), 0, None),
        (("exit", "1"), 1, None),
        (("exit", "77"), 77, None),
        (("die", "11"), None, signal.SIGSEGV),
        (("die", "9"), None, signal.SIGKILL),
        (("close", "1", "close", "2", "exit", "3"), 3, None),
    ],
)
async def test_row_2_end_before_the_handshake(
    supervise: Supervise, evil: MakeSpec, deeds: tuple[str, ...], code: int | None, number: int | None
) -> None:
    """A program that ends before it speaks is reported as a failed launch, with what the kernel said and its last words."""
    async with supervise(evil("error", "no such\\x1b module", *deeds, restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert report.reason is ExitReason.LAUNCH
    assert (report.status.code, report.status.signal) == (code, number)
    assert isinstance(report.error, LaunchError)
    assert report.stderr[-1] == "no such\\x1b module"
    assert report.stderr[-1] in str(report.error)


async def test_row_2_mistake_in_a_plugin_is_named(supervise: Supervise) -> None:
    """A class given to `serve` where an instance is meant: the report says so, and what to write instead."""
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from supervisor.sdk import serve
from kv_proto import KvBase
serve(KvBase)
"""
    async with supervise(PluginSpec(name="kv", command=(sys.executable, "-c", program), restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert report.reason is ExitReason.LAUNCH
    assert "KvBase is not a servicer but a class of them; make one: KvBase()" in str(report.error)


async def test_row_2_last_words_are_bounded(supervise: Supervise, evil: MakeSpec) -> None:
    """Of many long lines on stderr the report keeps the last ones: 64 at most, and 16 KiB at most."""
    noise = ("error", "x" * 1000) * 500
    async with supervise(evil(*noise, "error", "the last", "exit", "1", restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert report.stderr[-1] == "the last"
    assert 1 < len(report.stderr) <= 64
    assert sum(map(len, report.stderr)) <= 16 * 1024


async def test_row_2_end_is_noticed_at_once(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A program's end before its handshake is known within 50 ms."""
    spec = evil("stamp", "exit", "1", restart=ONCE)
    async with supervise(spec) as supervisor:
        await until_state(State.STOPPED, supervisor)
        for _ in range(6):
            with pytest.raises(Exception, match="stopped"):
                await supervisor.plugin("evil").start()
    ends = log.of(InstanceExited)
    assert len(ends) == 7
    assert statistics.median(end.at - float(end.report.stderr[0]) for end in ends) <= 0.05


async def test_row_3_silence_ends_with_the_start_timeout(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A program that says nothing is killed, with all its signals ignored, half a second after start_timeout at most."""
    spec = evil("ignore", "15", "ignore", "6", "hang", start_timeout=0.3, restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert report.reason is ExitReason.START_TIMEOUT
    assert isinstance(report.error, HandshakeTimeoutError)
    assert report.status.signal == signal.SIGKILL
    (launched,), (ended,) = log.of(InstanceLaunched), log.of(InstanceExited)
    assert ended.at - launched.at + 0.01 >= 0.3
    assert ended.at - launched.at <= 0.3 + 0.5


def test_row_8_plugin_run_by_hand_explains_itself(kv: MakeSpec) -> None:
    """Without the cookie a plugin exits with 1 and a word to the human, and says nothing on stdout."""
    ended = subprocess.run(kv().command, capture_output=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert b"This binary is a plugin" in ended.stderr


@pytest.mark.parametrize("cookie", [MagicCookie(value="wrong"), MagicCookie(key="ANOTHER_COOKIE")])
async def test_row_8_wrong_cookie_is_shown_by_the_host(supervise: Supervise, kv: MakeSpec, cookie: MagicCookie) -> None:
    """A host with another cookie gets a failed launch that quotes the plugin's word to the human."""
    async with supervise(kv(cookie=cookie, restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert (report.reason, report.status.code) == (ExitReason.LAUNCH, 1)
    assert any("This binary is a plugin" in line for line in report.stderr)
