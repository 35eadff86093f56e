"""What a handler may ask about the call that it serves, whichever engine serves it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from grpclib.metadata import Deadline, _Metadata

__all__ = ["Describable", "IncomingCall", "current_call", "set_current_call"]


class IncomingCall(NamedTuple):
    """What a handler may want to know beside the message.

    Attributes:
        method: the route, as in `/package.Service/Method`.
        metadata: the caller's headers; values of keys that end in `-bin` are bytes.
        peer: the connection's other end, as `grpclib.protocol.Peer`.
        deadline: the point in time at which the handler is cancelled, when the caller set one.
        stream: the call itself, as `grpclib.server.Stream`, to send metadata of one's own.
    """

    method: str
    metadata: _Metadata
    peer: Any
    deadline: Deadline | None
    stream: Any

    def incoming(self) -> IncomingCall:
        """Return itself."""
        return self


class Describable(Protocol):
    """A call that can say what there is to know about it; few handlers ask."""

    def incoming(self) -> IncomingCall:
        """Return it."""


_current: ContextVar[Describable] = ContextVar("supervisor_incoming_call")

set_current_call = _current.set
"""Note the call that this task, and those that it starts, serve."""


def current_call() -> IncomingCall:
    """Return the call that this task serves; generated servicers see only the message.

    Raises:
        LookupError: the task, and those that it was started from, serve no call.
    """
    return _current.get().incoming()
