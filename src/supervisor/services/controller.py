"""`plugin.GRPCController`: the host asks the plugin to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from supervisor.errors import DeadlineExceededError, TransportError
from supervisor.services.flat_messages import Empty

if TYPE_CHECKING:
    from grpclib.client import Channel
    from grpclib.server import Stream

__all__ = ["ControllerService", "request_shutdown"]

_SHUTDOWN = "/plugin.GRPCController/Shutdown"

_GOING_AWAY = frozenset({Status.UNAVAILABLE, Status.CANCELLED})


class ControllerService:
    """The plugin's side: answers first and calls `on_shutdown` then, since the host waits for the answer.

    `on_shutdown` must not block; it is called once for each request.
    """

    def __init__(self, on_shutdown: Callable[[], None]) -> None:
        self._on_shutdown = on_shutdown

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        return {_SHUTDOWN: Handler(self._shutdown, Cardinality.UNARY_UNARY, Empty, Empty)}

    async def _shutdown(self, stream: Stream[Empty, Empty]) -> None:
        await stream.recv_message()
        try:
            await stream.send_message(Empty())
            await stream.send_trailing_metadata()
        finally:
            # A host that hung up before the answer meant it all the same.
            self._on_shutdown()


async def request_shutdown(channel: Channel, *, timeout: float) -> bool:
    """Ask the plugin to end; return whether it took the request.

    A plugin may hard-stop its server inside the handler (Go's do), so UNAVAILABLE, CANCELLED and a lost connection
    are as good as an answer. No answer within `timeout` seconds, or no such service, gives False.
    """
    stream: Any  # grpclib's stream is generic in ways that say nothing here
    try:
        async with channel.request(_SHUTDOWN, Cardinality.UNARY_UNARY, Empty, Empty, timeout=timeout) as stream:
            await stream.send_message(Empty(), end=True)
            await stream.recv_message()
    except DeadlineExceededError:
        return False
    except TransportError:
        return True
    except GRPCError as error:
        return error.status in _GOING_AWAY
    return True
