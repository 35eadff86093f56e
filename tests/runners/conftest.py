"""Real processes, and the proof that none of them stays."""

# Descriptors and processes are listed as the kernel names them.

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from supervisor.abc import ByteSource
from supervisor.runners.subprocess import SubprocessProcess, SubprocessRunner
from supervisor.spec import PluginSpec

EVIL = Path(__file__).parents[1] / "evil"


def _children() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    found.add(int(entry.name))
    return found


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.fixture(autouse=True)
def runtime_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's runtime directory for this test alone, which must be empty again in the end.

    Its path is short enough for sockets, which `tmp_path` is not.
    """
    path = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    left = list(path.iterdir())
    shutil.rmtree(path)
    assert left == [], "a runtime directory is left"


@pytest.fixture(autouse=True)
def no_leaks(runtime_root: Path) -> Iterator[None]:
    """Fail a test that leaves a child, a descriptor or a thread behind."""
    before = _children(), _descriptors(), set(threading.enumerate())
    yield
    assert _children() <= before[0], "a child is left"
    assert set(_descriptors()) <= set(before[1]), f"descriptors are left: {_descriptors()}, before: {before[1]}"
    deadline = time.monotonic() + 2  # a waiting thread ends a moment after its child
    for thread in set(threading.enumerate()) - before[2]:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert set(threading.enumerate()) <= before[2], "a thread is left"


@pytest.fixture
def short_dir(no_leaks: None) -> Iterator[Path]:
    """Another directory with a short path."""
    path = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def runner(no_leaks: None) -> Iterator[SubprocessRunner]:
    """A runner without a guard, which costs the start of an interpreter and is tested by itself."""
    runner = SubprocessRunner(guard=False)
    yield runner
    runner.close()


@pytest.fixture
def launch(runner: SubprocessRunner) -> Callable[..., Awaitable[SubprocessProcess]]:
    """Launch a program of the evil kit by its file name, or any command given as a list."""

    async def launch(
        *command: str,
        on: SubprocessRunner | None = None,
        variables: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> SubprocessProcess:
        if command[0].endswith(".py"):
            command = (sys.executable, str(EVIL / command[0]), *command[1:])
        spec = PluginSpec(name="evil", command=command, **settings)
        return await (on or runner).launch(spec, generation=1, variables=variables or {})

    return launch


@pytest.fixture
def read_line() -> Callable[[ByteSource], Awaitable[str]]:
    """Read one line from a program that prints no more than one at a time."""

    async def read_line(source: ByteSource) -> str:
        text = b""
        async with asyncio.timeout(10):
            while not text.endswith(b"\n"):
                text += await source.receive()
        return text.decode()

    return read_line


@pytest.fixture
def read_json(read_line: Callable[[ByteSource], Awaitable[str]]) -> Callable[[ByteSource], Awaitable[dict[str, Any]]]:
    """Read one line of JSON."""

    async def read_json(source: ByteSource) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(await read_line(source))
        return value

    return read_json


class Witness:
    """Holds pidfds of processes that need not be ours, so that their death can be seen whatever becomes of the pid."""

    def __init__(self) -> None:
        self._pidfds: dict[int, int] = {}

    def watch(self, *pids: int) -> None:
        for pid in pids:
            self._pidfds[pid] = os.pidfd_open(pid)

    def survivors(self, within: float) -> set[int]:
        """Return who is still alive after at most `within` seconds; returns at once when nobody is."""
        deadline = time.monotonic() + within
        alive = set()
        for pid, pidfd in self._pidfds.items():
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                alive.add(pid)
        return alive

    def close(self) -> None:
        """Kill the survivors: a test that fails must not leave them to the next one."""
        for pidfd in self._pidfds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


@pytest.fixture
def witness(no_leaks: None) -> Iterator[Witness]:
    """Who can tell which processes are dead."""
    witness = Witness()
    yield witness
    witness.close()
