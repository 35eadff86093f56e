"""How a test watches a supervisor: an observer that keeps everything, and waits that end with an event."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from supervisor import LogRecord, State, Supervisor
from supervisor.events import Event, InstanceExited, InstanceLaunched, StateChanged
from supervisor.outcome import ExitReport

__all__ = ["Log", "descriptors", "exit_of", "freeze", "resident", "until", "until_state"]

EventT = TypeVar("EventT", bound=Event)


class Log:
    """An observer that keeps everything, and knows the rule of one terminal event for each instance."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.records: list[LogRecord] = []
        self._news = asyncio.Event()

    def on_event(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def on_record(self, plugin: str, generation: int, pid: int, record: LogRecord) -> None:
        """Keep it."""
        self.records.append(record)
        self._news.set()

    async def heard(self, count: int) -> None:
        """Wait until so many records have come; bounded."""
        async with asyncio.timeout(20):
            while len(self.records) < count:
                self._news.clear()
                await self._news.wait()

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def moment(self, state: State, *, generation: int = 1) -> float:
        """Return when the plugin of a life first came into a state."""
        return next(e.at for e in self.of(StateChanged) if e.new is state and e.generation == generation)

    def assert_each_launch_ended_once(self) -> None:
        """Every launched instance has exactly one terminal event, which names a reason."""
        launched = [(event.plugin, event.generation) for event in self.of(InstanceLaunched)]
        ended = [(event.plugin, event.generation) for event in self.of(InstanceExited)]
        assert len(ended) == len(set(ended))
        assert set(launched) <= set(ended)


async def until(condition: Callable[[], bool], supervisor: Supervisor) -> None:
    """Wait until `condition()`, asked again after each event; bounded."""
    async with asyncio.timeout(20):
        with supervisor.subscribe() as events:
            while not condition():
                await anext(events)


async def until_state(state: State, supervisor: Supervisor, name: str = "") -> None:
    """Wait until a plugin, the only one when no name is given, is in a state; bounded."""
    plugin = supervisor.plugin(name) if name else next(iter(supervisor.plugins.values()))
    await until(lambda: plugin.state is state, supervisor)


async def exit_of(supervisor: Supervisor) -> ExitReport:
    """Wait for the end of a life of the only plugin and return the report; bounded."""
    (plugin,) = supervisor.plugins.values()
    await until(lambda: plugin.last_exit is not None, supervisor)
    assert plugin.last_exit is not None
    return plugin.last_exit


def freeze(pid: int) -> None:
    """Send SIGSTOP and return when every thread has stopped: the signal alone lets them answer a little longer."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 10
    while not _is_frozen(pid):
        assert time.monotonic() < until, f"process {pid} does not stop"
        os.sched_yield()


def _is_frozen(pid: int) -> bool:
    """Whether it is stopped, from the kernel's table: only a parent could wait for it."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def resident() -> int:
    """Return this process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
