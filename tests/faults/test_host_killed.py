"""The host is killed while it supervises plugins of our own sdk: nothing that it started outlives it. Row 36."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOST = str(Path(__file__).parent / "kv_host.py")


def await_ends(pidfds: dict[int, str], *, within: float) -> set[str]:
    """Return who has not ended within so many seconds; the kernel tells, nobody is asked twice."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    alive, until = dict(pidfds), time.monotonic() + within
    while alive and (left := until - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left * 1000):
            poll.unregister(pidfd)
            del alive[pidfd]
    return set(alive.values())


@pytest.mark.parametrize("how", ["idle", "calling"])
def test_row_36_killed_host_takes_its_plugins_and_their_children_along(how: str) -> None:
    """SIGKILL of the host: two plugins and plain, regrouped, setsid and double-forked children are gone within 1 s."""
    host = subprocess.Popen([sys.executable, HOST, how], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    pidfds: dict[int, str] = {}
    try:
        assert host.stdout is not None
        family = json.loads(host.stdout.readline())
        assert set(family) == {"store", "other", "leader", "plain", "group", "session", "orphan"}
        for name, pid in family.items():
            pidfds[os.pidfd_open(pid)] = name
        assert await_ends(pidfds, within=0.05) == set(family)
        host.send_signal(signal.SIGKILL)
        assert await_ends(pidfds, within=1.0) == set()
    finally:
        host.kill()
        host.communicate(timeout=20)
        for pidfd in pidfds:
            os.close(pidfd)
