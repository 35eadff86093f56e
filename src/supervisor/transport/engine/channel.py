"""The client's side: grpclib's channel, whose calls the engine makes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchChannelEvents
from grpclib.metadata import USER_AGENT, Deadline, _MetadataLike
from multidict import MultiDict

from supervisor.errors import DecodeError, EncodeError, ProtocolViolationError, SupervisorError
from supervisor.terms import Limits
from supervisor.transport.channel import Channel
from supervisor.transport.codec import MessageCodec, Pieces
from supervisor.transport.engine.call import Call
from supervisor.transport.engine.calling import ClientProtocol
from supervisor.transport.engine.compression import ACCEPTED
from supervisor.transport.engine.details import StatusDetailsCodec
from supervisor.transport.engine.headers import Repeated
from supervisor.transport.engine.peer import Peer
from supervisor.transport.engine.stream import too_large
from supervisor.transport.engine.unary import UnaryCall

__all__ = ["EngineChannel"]

_SendT = TypeVar("_SendT")
_RecvT = TypeVar("_RecvT")


class EngineChannel(Channel):
    """One connection to one process, made by `dial`. It never reconnects.

    Attributes:
        lost: set when the connection has ended; calls fail at once from then on.
        limits: the bounds that it keeps.
        wire: the connection's asyncio side.
        codec: how messages become bytes.
        encode: returns a request message's bytes, of a large one perhaps in pieces; raises EncodeError or MessageTooLargeError.
        decode: returns the response message of its type that bytes hold; raises DecodeError.
        subtype: the codec's name, as in `application/grpc+subtype`.
    """

    _wire: ClientProtocol  # type: ignore[assignment] # the engine's, with the parts of grpclib's that `Channel` uses

    def __init__(
        self,
        protocol: ClientProtocol,
        *,
        name: str,
        authority: str,
        limits: Limits,
        codec: CodecBase | None = None,
        status_details_codec: StatusDetailsCodecBase | None = None,
    ) -> None:
        # grpclib's constructor makes what connects and what h2 needs, twice the memory of all the rest.
        self.limits = limits
        self.lost = asyncio.Event()
        own = MessageCodec(max_size=limits.message_size)
        self.codec = self._codec = codec or own
        self.encode: Callable[[Any, Any], bytes | Pieces] = own.encode_pieces if codec is None else self._encode
        self.decode: Callable[[bytes, Any], Any] = own.decode if codec is None else self._decode
        self.subtype: bytes = self.codec.__content_subtype__.encode("ascii")
        self.__dispatch__ = _DispatchChannelEvents()
        self._status_details_codec = status_details_codec or StatusDetailsCodec()
        self._name = name
        self._authority = authority
        self._scheme = "http"
        self._wire = self.wire = protocol
        self._loop = protocol.loop
        self.calls: set[Any] = set()
        self._calls = self.calls
        self._idle = set()
        self._heads: dict[str, Repeated] = {}
        self._peer: Peer | None = None
        protocol.on_end = self._ended
        if protocol.failure is not None:
            self._ended()

    @property
    def is_closing(self) -> bool:
        """Whether the connection has ended or is about to: a write that failed is known a turn before the end is."""
        wire = self._wire
        return wire.failure is not None or wire.transport is None or wire.transport.is_closing()

    @property
    def is_draining(self) -> bool:
        """Whether the peer said that it takes no more calls; those in flight are served."""
        return self._wire.draining

    async def __connect__(self) -> Any:
        """Return what the connection is driven by.

        Raises:
            ConnectionLostError: it has ended, or takes no more calls.
        """
        self._wire.check_open()
        return self._wire

    @property
    def failure(self) -> Exception | None:
        """Why the connection ended; None while it is open."""
        make_error = self._wire.failure
        return None if make_error is None else make_error()

    @property
    def peer(self) -> Peer:
        """The connection's other end."""
        if self._peer is None:
            self._peer = Peer(self._wire.transport)
        return self._peer

    @property
    def listened_dispatch(self) -> _DispatchChannelEvents | None:
        """What tells listeners of a call's events; None when there are no listeners."""
        return self.__dispatch__ if self.__dispatch__._listeners else None  # noqa: SLF001 - grpclib's

    def request(  # type: ignore[override] # the engine's call has the same methods
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[_SendT],
        reply_type: type[_RecvT],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: _MetadataLike | None = None,
        compress: bool = False,
    ) -> Call[_SendT, _RecvT]:
        """Prepare a call; nothing is sent before the context is entered and its first method called.

        Args:
            name: the route, as in `/package.Service/Method`.
            cardinality: which sides stream.
            request_type: the class of the messages sent.
            reply_type: the class of the messages received.
            timeout: seconds from now; the earlier of it and `deadline` holds.
            deadline: a point in time.
            metadata: headers for the peer; values of keys that end in `-bin` are bytes.
            compress: send messages gzipped.
        """
        at = self._expiry(timeout, deadline)
        return Call(
            self, name, cardinality, request_type, reply_type,
            expires_at=at, metadata=metadata, compress=compress,
        )  # fmt: skip

    def unary(
        self,
        name: str,
        request: Any,
        reply_type: type[_RecvT],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: _MetadataLike | None = None,
    ) -> Coroutine[Any, Any, _RecvT]:
        """Make a unary call; awaited, it gives the reply. The arguments are those of `request`."""
        if deadline is not None:
            remaining = deadline.time_remaining()
            timeout = remaining if timeout is None else min(timeout, remaining)
        if timeout == math.inf:
            timeout = None
        return UnaryCall(self, name, reply_type, metadata).exchange(request, timeout)

    def _encode(self, message: Any, message_type: type[Any]) -> bytes:
        """Encode by somebody else's codec, which may raise anything."""
        try:
            data: bytes = self.codec.encode(message, message_type)
        except SupervisorError:
            raise
        except Exception as error:
            raise EncodeError(f"a {message_type.__name__} cannot be encoded: {error}") from error
        limit = self.limits.message_size
        if len(data) > limit:
            raise too_large(len(data), limit)
        return data

    def _decode(self, data: bytes, message_type: type[Any]) -> Any:
        try:
            return self.codec.decode(data, message_type)
        except SupervisorError:
            raise
        except Exception as error:
            raise DecodeError(f"the bytes received are not a {message_type.__name__}: {error}") from error

    def _expiry(self, timeout: float | None, deadline: Deadline | None) -> float | None:
        """Return the earlier of the two by the loop's clock."""
        expires_at = None if timeout is None else self._loop.time() + timeout
        if deadline is not None:
            at = self._loop.time() + deadline.time_remaining()
            expires_at = at if expires_at is None else min(at, expires_at)
        return None if expires_at == math.inf else expires_at

    def enter(self, call: Any) -> None:
        """Count a call in."""
        self._calls.add(call)

    def head_of(self, method: str) -> Repeated:
        """Return the header fields that all calls of a method have."""
        head = self._heads.get(method)
        if head is None:
            subtype = b"" if self.subtype == b"proto" else b"+" + self.subtype  # googleapis' servers refuse `+proto`
            fields = (
                (b":method", b"POST"),
                (b":scheme", self._scheme.encode()),
                (b":path", method.encode()),
                (b":authority", self._authority.encode()),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc" + subtype),
                (b"grpc-accept-encoding", ACCEPTED),
                (b"user-agent", USER_AGENT.encode()),
            )
            head = self._heads[method] = Repeated(fields)
        return head

    async def tell_request(self, method: str, metadata: Any, expires_at: float | None) -> Any:
        """Tell listeners of a request that is about to be sent; return the metadata that they leave."""
        remaining = None if expires_at is None else expires_at - self._loop.time()
        (metadata,) = await self.__dispatch__.send_request(
            MultiDict(metadata or ()),
            method_name=method,
            deadline=None if remaining is None else Deadline.from_timeout(remaining),
            content_type="application/grpc",
        )
        return metadata

    def decode_details(self, status: Status, message: str | None, details: bytes) -> Any:
        """Return what `grpc-status-details-bin` holds; None when it cannot be read.

        The status is the answer, and details that another library would not read either are not worth losing it.
        """
        codec = self._status_details_codec
        assert codec is not None
        try:
            from binascii import a2b_base64  # noqa: PLC0415 - of errors only

            return codec.decode(status, message, a2b_base64(details + b"=" * (-len(details) % 4)))
        except (ValueError, ProtocolViolationError):
            return None
