from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from supervisor.outcome import ExitStatus
from supervisor.runners.child import Child, watch_exit

Start = Callable[..., Child]


@pytest.fixture(params=[True, False], ids=["pidfd", "pid"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start children, named by pidfd and, as on systems that have none, by pid; end and reap them afterwards."""
    children: list[Child] = []

    def start(*command: str) -> Child:
        process = subprocess.Popen(command, start_new_session=True)
        children.append(Child.adopt(process, use_pidfd=request.param))
        return children[-1]

    yield start
    for child in children:
        child.signal_group(signal.SIGKILL)
        child.wait_blocking(5)
        child.close()


def test_peeking_does_not_reap(start: Start) -> None:
    """The status can be read again and again, until the child is reaped; then it is unknown."""
    child = start("/bin/sh", "-c", "exit 7")
    assert child.wait_blocking(5)

    assert child.peek() == child.peek() == ExitStatus(code=7)
    child.reap()
    child.reap()
    assert child.reaped
    assert child.peek() == ExitStatus()


def test_a_running_child_has_no_status_and_is_not_reaped(start: Start) -> None:
    """Peeking, reaping and waiting in vain change nothing while it runs."""
    child = start("sleep", "1000")

    assert child.peek() is None
    child.reap()
    assert not child.reaped
    assert not child.wait_blocking(0)


def test_the_group_of_a_dead_leader_can_be_signalled(start: Start) -> None:
    """The unreaped leader pins the group: what it left in there still gets the signal."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 1000 & exit 0"], start_new_session=True, close_fds=True, pass_fds=(writing,)
    )
    child = Child.adopt(process, use_pidfd=start("true").pidfd >= 0)
    os.close(writing)
    assert child.wait_blocking(5)

    child.signal_group(signal.SIGKILL)

    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"", "the last holder of the pipe is gone"
    child.close()


def test_a_group_whose_leader_was_reaped_is_left_alone_without_a_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare pid means nothing once somebody has reaped the child: no signal is sent to whoever has it now."""
    process = subprocess.Popen(["true"], start_new_session=True)
    child = Child.adopt(process, use_pidfd=False)
    os.waitpid(child.pid, 0)
    signalled: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "killpg", lambda *arguments: signalled.append(arguments))
    child.signal_group(signal.SIGKILL)

    assert signalled == []
    assert child.peek() == ExitStatus()


async def test_the_watch_calls_once_and_on_the_loop(start: Start) -> None:
    """The callback runs on the loop's thread, exactly once, also for a child that had ended before."""
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    ended = asyncio.Event()

    def callback() -> None:
        calls.append(threading.get_ident())
        ended.set()

    child = start("true")
    child.wait_blocking(5)
    watch = watch_exit(child, loop, callback)
    async with asyncio.timeout(5):
        await ended.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    watch.close()

    assert calls == [threading.get_ident()]


async def test_a_closed_watch_is_silent(start: Start) -> None:
    """After `close()` the end of the child concerns nobody any more."""
    calls: list[None] = []
    child = start("sleep", "1000")
    watch = watch_exit(child, asyncio.get_running_loop(), lambda: calls.append(None))
    watch.close()
    watch.close()
    child.signal_group(signal.SIGKILL)
    child.wait_blocking(5)
    for thread in threading.enumerate():
        if thread.name == f"wait-{child.pid}":
            thread.join(5)
    for _ in range(3):
        await asyncio.sleep(0)

    assert calls == []


def test_a_child_in_our_own_group_is_signalled_alone(no_leaks: None) -> None:
    """At the host's terminal the group is the host's: it must not be hit by what is meant for the plugin."""
    for use_pidfd in (True, False):
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        child = Child.adopt(process, leads_group=False, use_pidfd=use_pidfd)
        child.signal_group(signal.SIGKILL)
        assert child.wait_blocking(20)
        assert child.peek() == ExitStatus(signal=signal.SIGKILL)
        child.close()
        assert process.stdin is not None
        process.stdin.close()
