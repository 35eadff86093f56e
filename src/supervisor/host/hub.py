"""Where events and log records leave the supervisor: observers first, then subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from supervisor.abc import Observer
from supervisor.events import Event
from supervisor.host.feed import Feed
from supervisor.records import LogRecord

__all__ = ["Hub"]


class Hub:
    """Tells every observer and subscriber; one that raises is dropped, the event never is.

    Events come from keepers on the supervisor's loop, so telling is plain calls in order, with no queue between.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self.events: Feed[Event] = Feed()

    def emit(self, event: Event) -> None:
        """Tell everybody about an event."""
        for observer in tuple(self._observers):
            try:
                observer.on_event(event)
            except Exception as error:  # noqa: BLE001  # an observer is foreign code
                self._drop(observer, error)
        self.events.tell(event)

    def record(self, plugin: str, generation: int, pid: int, record: LogRecord) -> None:
        """Tell every observer about a plugin's log record."""
        for observer in tuple(self._observers):
            try:
                observer.on_record(plugin, generation, pid, record)
            except Exception as error:  # noqa: BLE001  # an observer is foreign code
                self._drop(observer, error)

    def _drop(self, observer: Observer, error: Exception) -> None:
        if observer in self._observers:
            self._observers.remove(observer)
        asyncio.get_running_loop().call_exception_handler(
            {
                "message": f"observer {observer!r} raised and is told nothing more",
                "exception": error,
            }
        )
