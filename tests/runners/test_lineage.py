# Descriptors and processes are listed as the kernel names them.

from __future__ import annotations

import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from supervisor.runners import lineage


class Started:
    """Starts sleeping processes and ends them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, *tokens: str, session: bool = True, bare: bool = False) -> subprocess.Popen[bytes]:
        env = {} if bare else {lineage.VARIABLE: ":".join(tokens)}
        process = self._stack.enter_context(
            subprocess.Popen(["/bin/sleep", "1000"], env=env, start_new_session=session)
        )
        self._stack.callback(process.kill)
        return process


@pytest.fixture
def start() -> Iterator[Started]:
    """Start processes that carry a lineage."""
    with ExitStack() as stack:
        yield Started(stack)


def token() -> str:
    """A token that nobody carries yet."""
    return secrets.token_hex(16)


def test_only_the_lineage_is_killed(start: Started) -> None:
    """Carriers die at any place in their lineage, others live; and a sweep for nobody finds nobody."""
    mine, other = token(), token()
    inner, outer, stranger = start("host", mine, "inner"), start(mine), start(other)

    assert lineage.sweep(mine)

    assert inner.wait(1) == outer.wait(1) == -9
    assert stranger.poll() is None
    assert lineage.sweep(mine)


def test_a_session_that_is_spared_loses_only_its_carriers(start: Started) -> None:
    """A carrier that somebody started in the host's own session does not take the host down with it."""
    mine = token()
    carrier, bystander = start(mine, session=False), start(session=False, bare=True)

    assert os.getsid(carrier.pid) == os.getsid(0)
    assert lineage.sweep(mine)

    assert carrier.wait(1) == -9
    assert bystander.poll() is None


def test_who_shares_a_session_with_a_carrier_goes_with_it(start: Started) -> None:
    """A child that emptied its environment is found through its session."""
    mine = token()
    script = "env -i /bin/sleep 1000 & echo $!; wait"
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script], env={lineage.VARIABLE: mine}, stdout=subprocess.PIPE, start_new_session=True
    )
    assert shell.stdout is not None
    child = os.pidfd_open(int(shell.stdout.readline()))
    try:
        assert lineage.sweep(mine)
        assert shell.wait(1) == -9
        assert shell.stdout.read() == b""  # the child held the other writing end
    finally:
        os.close(child)
        shell.stdout.close()


def test_a_session_can_be_named(start: Started) -> None:
    """The session of a leader is killed even when nobody in it carries anything."""
    bare = start(bare=True)

    assert lineage.sweep(token(), session=bare.pid)

    assert bare.wait(1) == -9


def test_a_zombie_is_not_waited_for(start: Started) -> None:
    """What is dead and unreaped counts as gone, be it in the very session that is to be killed."""
    mine = token()
    process = start(mine)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert lineage.sweep(mine, session=process.pid)


def test_a_tree_that_grows_meanwhile_is_caught(start: Started) -> None:
    """Who is born while the sweep looks elsewhere is found by the next pass: 64 processes, each in its own session."""
    mine = token()
    code = (
        "import os, signal\n"
        "print('growing', flush=True)\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "signal.alarm(20)\n"  # a failing test ends by itself
        "while True: signal.pause()\n"
    )
    root = subprocess.Popen(
        [sys.executable, "-S", "-c", code],
        env={lineage.VARIABLE: mine},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    with root:
        assert root.stdout is not None
        root.stdout.readline()

        assert lineage.sweep(mine, timeout=5)

        assert root.wait(1) == -9
    assert not any(lineage.carries(int(name), mine) for name in os.listdir("/proc") if name.isdigit())


def test_an_unreadable_proc_is_admitted() -> None:
    """Without a descriptor to look with, the sweep says that it could not."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        swept = lineage.sweep(token())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert not swept
