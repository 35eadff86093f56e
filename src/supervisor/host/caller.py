"""Which plugin is calling, for the services that a host offers to several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Caller", "current_caller", "serving"]


@dataclass(frozen=True, slots=True)
class Caller:
    """One life of a plugin, as the services that it calls know it.

    Attributes:
        plugin: its name.
        generation: which life it is.
    """

    plugin: str
    generation: int


_current: ContextVar[Caller] = ContextVar("supervisor_caller")


def current_caller() -> Caller:
    """Return the plugin whose call the running handler serves.

    Raises:
        LookupError: this code does not run in a service that the host offers.
    """
    return _current.get()


@contextmanager
def serving(caller: Caller) -> Iterator[None]:
    """Have the handlers of what is opened in the block know their caller: connections keep the context they began in."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
