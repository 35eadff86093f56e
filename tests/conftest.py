"""What every test is held to: nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

LINEAGE = f"test-{os.getpid()}"
"""A token that everything started from here carries, so that runs beside this one are not taken for it."""

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES / "kv"))  # the KV contract that tests and examples share


# In CI the examples are the same on every run; elsewhere each run looks for new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of every later collection, of which each test makes two."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that is skipped has failed: some need root, and CI has it."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def own_corner() -> Iterator[None]:
    """Give this run a lineage and a runtime directory of its own, and signals as a terminal gives them."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:  # started by nohup, or by a shell in the background
            signal.signal(number, handler)
    with tempfile.TemporaryDirectory(prefix="t") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERVISOR_LINEAGE", LINEAGE)
        patch.setenv("XDG_RUNTIME_DIR", directory)
        yield


def descendants() -> set[int]:
    """Return every process that was started from here, whoever its parent is by now; zombies have no environment."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if f"SUPERVISOR_LINEAGE={LINEAGE}".encode() in environment:
                found.add(int(entry))
    return found


def children() -> dict[int, str]:
    """Return this process's children, zombies included, as pid → command line."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            try:
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


def descriptors() -> dict[int, str]:
    """Return open descriptors as number → what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def leftovers(before: tuple[set[int], set[int], set[int]]) -> list[str]:
    """Say what there is now that was not there before."""
    found = [f"child {pid}: {line}" for pid, line in children().items() if pid not in before[0]]
    found += [f"fd {fd}: {target}" for fd, target in descriptors().items() if fd not in before[1]]
    found += [f"thread {t.name}" for t in threading.enumerate() if t.ident not in before[2] and t.is_alive()]
    return found


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a child, a zombie, a descriptor or a thread behind."""
    before = (set(children()), set(descriptors()), {t.ident or 0 for t in threading.enumerate()})
    yield
    gc.collect()
    until = time.monotonic() + 2.0
    while (found := leftovers(before)) and time.monotonic() < until:
        time.sleep(0.005)  # the kernel is given a moment to finish what was killed
    assert not found, f"left behind: {found}"


@pytest.fixture
def no_orphan_left() -> Iterator[None]:
    """Fail a test that leaves a descendant or a runtime directory behind."""
    before = descendants()
    yield
    until = time.monotonic() + 2.0
    while (left := [*descendants() - before, *os.listdir(os.environ["XDG_RUNTIME_DIR"])]) and time.monotonic() < until:
        time.sleep(0.005)  # the guard of a host that was killed is given a moment
    assert not left


@pytest.fixture
async def children_reaped() -> AsyncIterator[None]:
    """Keep the loop running in the end until it has reaped the children that a host of the test has let go of."""
    before = set(children())
    yield
    async with asyncio.timeout(20):
        while set(children()) - before:
            await asyncio.sleep(0.005)


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind, or whose loop was told of an exception that nobody handled."""
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(f"{context['message']}: {context.get('exception')!r}"))
    before = asyncio.all_tasks()
    yield
    gc.collect()
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    if left:
        await asyncio.wait(left, timeout=2.0)
    left = [task for task in left if not task.done()]
    assert not left, f"tasks left: {left}"
    assert not told, f"the loop was told: {told}"
