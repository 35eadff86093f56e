"""`plugin.GRPCBroker`: the stream on which the two sides tell each other where their services are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from supervisor.errors import BrokerError, DecodeError, TransportError
from supervisor.services.flat_messages import RawMessage
from supervisor.transport.codec import decode, encode

if TYPE_CHECKING:
    from grpclib.client import Channel
    from grpclib.server import Stream

    from supervisor._proto.plugin import ConnInfo

__all__ = ["BrokerService", "ConnInfoStream", "follow"]

_UNSENT = 10_000
"""Messages that may wait to be sent; an other side that causes more does not read its answers."""

_STREAM = "/plugin.GRPCBroker/StartStream"


class ConnInfoStream:
    """Messages of both directions. What is to be sent waits until a call carries it; one call does at a time.

    Attributes:
        on_info: told each message from the other side.
        on_closed: told why no message will be carried any more, once.
        on_another: called when another host has taken the plugin over.
    """

    def __init__(self) -> None:
        self.on_info: Callable[[ConnInfo], None] = lambda _: None
        self.on_closed: Callable[[str], None] = lambda _: None
        self.on_another: Callable[[], None] = lambda: None
        self._outbox: deque[ConnInfo] = deque()
        self._news = asyncio.Event()
        self._closed: str | None = None

    def send(self, info: ConnInfo) -> None:
        """Send a message, now or when a call carries it.

        Raises:
            BrokerError: the stream is closed.
        """
        if self._closed is not None:
            raise BrokerError(self._closed, service_id=info.service_id)
        if len(self._outbox) >= _UNSENT:
            self.close("broker closed: the other side does not read")
            return
        self._outbox.append(info)
        self._news.set()

    def close(self, why: str = "broker closed") -> None:
        """Carry nothing any more. Idempotent; the first reason stays."""
        if self._closed is None:
            self._closed = why
            self._outbox.clear()
            self.on_closed(why)

    async def carry(self, stream: Any) -> None:
        """Exchange messages on an open call until the other side ends it.

        Raises:
            GRPCError: the call ended with a status.
            TransportError: the connection broke.
        """
        sender = asyncio.create_task(self._send_all(stream), name="send connection infos")
        try:
            while self._closed is None and (message := await stream.recv_message()) is not None:
                self.on_info(_read(message))
        finally:
            sender.cancel()
            await asyncio.wait({sender})

    async def _send_all(self, stream: Any) -> None:
        # What breaks the sending breaks the receiving too, where it is told.
        with suppress(TransportError, GRPCError):
            while True:
                while self._outbox:
                    await stream.send_message(RawMessage(encode(self._outbox[0])))
                    if self._outbox:  # else it was closed meanwhile
                        self._outbox.popleft()
                self._news.clear()
                await self._news.wait()


def _read(message: RawMessage) -> ConnInfo:
    from supervisor._proto.plugin import ConnInfo  # noqa: PLC0415  # 2 ms, which plugins without a broker do not spend

    try:
        return decode(ConnInfo, message.data)
    except DecodeError as error:
        raise GRPCError(Status.INTERNAL, str(error)) from error


class BrokerService:
    """The plugin's side of the stream: it is there for one host at a time, the latest."""

    def __init__(self, infos: ConnInfoStream) -> None:
        self._infos = infos
        self._carrier: asyncio.Task[Any] | None = None

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        return {_STREAM: Handler(self._stream, Cardinality.STREAM_STREAM, RawMessage, RawMessage)}

    def close(self) -> None:
        """End the call that is under way."""
        if self._carrier is not None:
            self._carrier.cancel()

    async def _stream(self, stream: Stream[RawMessage, RawMessage]) -> None:
        if self._carrier is not None:
            self._carrier.cancel()
        self._infos.on_another()
        self._carrier = own = asyncio.current_task()
        try:
            await stream.send_initial_metadata()
            await self._infos.carry(stream)
        finally:
            if self._carrier is own:
                self._carrier = None


async def follow(channel: Channel, infos: ConnInfoStream) -> None:
    """Open the stream as the host and carry messages until the plugin ends it; closes `infos` then.

    A plugin without a broker closes it at once. Safe to cancel.
    """
    why = "broker closed"
    try:
        async with channel.request(_STREAM, Cardinality.STREAM_STREAM, RawMessage, RawMessage) as stream:
            await stream.send_request()
            await infos.carry(stream)
    except GRPCError as error:
        if error.status is Status.UNIMPLEMENTED:
            why = "broker closed: the plugin does not serve plugin.GRPCBroker"
    except TransportError as error:
        why = f"broker closed: {error}"
    finally:
        infos.close(why)
