"""The server's side of a connection: which requests become calls, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from grpclib.const import Handler as Method
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchServerEvents
from grpclib.metadata import encode_grpc_message

from supervisor.transport.engine import frames
from supervisor.transport.engine.compression import ACCEPTED
from supervisor.transport.engine.details import StatusDetailsCodec
from supervisor.transport.engine.faults import ErrorCode
from supervisor.transport.engine.headers import Fields, HeaderBlock, Repeated, literal
from supervisor.transport.engine.protocol import EngineProtocol
from supervisor.transport.engine.replying import ReplySide
from supervisor.transport.engine.request import Refusal, read_request
from supervisor.transport.engine.roles import ServerConnection
from supervisor.transport.engine.serving import ServedCall
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import ENDED

__all__ = ["Calls", "EngineService", "ServerProtocol"]

_OK: Final = (b"grpc-status", b"0")

_HEAD: Final[Fields] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPTED),
)


@dataclass(frozen=True, slots=True)
class EngineService:
    """What serves the calls of one server.

    Attributes:
        methods: by route.
        codec: how messages become bytes.
        dispatch: tells listeners of events.
        message_size: bytes of one message.
        on_error: told the route and the exception when a handler raises something that is not a status.
        details_codec: how details of a status become bytes.
        head_fields: the headers of every response.
        subtype: the codec's name, as in `application/grpc+subtype`.
    """

    methods: Mapping[str, Method]
    codec: CodecBase
    dispatch: _DispatchServerEvents
    message_size: int
    on_error: Callable[[str, BaseException], None]
    details_codec: StatusDetailsCodecBase = field(default_factory=StatusDetailsCodec)
    head_fields: Fields = _HEAD

    @property
    def subtype(self) -> bytes:
        """The codec's name."""
        return self.codec.__content_subtype__.encode("ascii")

    @property
    def listened_dispatch(self) -> _DispatchServerEvents | None:
        """What tells listeners of a call's events; None when there are no listeners."""
        return self.dispatch if self.dispatch._listeners else None  # noqa: SLF001 - grpclib's


class Calls(Protocol):
    """Who counts the calls of a server, on all of its connections."""

    def begin(self, key: object, call: Any) -> None:
        """Count one in; it has `cut()`, which answers it at once and cancels its handler."""

    def finish(self, key: object) -> None:
        """Count one out."""


class ServerProtocol(EngineProtocol):
    """A server's side: a task for each call."""

    connection: ServerConnection

    def __init__(self, service: EngineService, settings: WireSettings, calls: Calls) -> None:
        super().__init__(settings)
        self.service = service
        self.calls = calls
        self._subtype = service.subtype
        self.head = Repeated(service.head_fields)
        self.head_only = Repeated((*service.head_fields, _OK))
        self.ok = Repeated((_OK,))
        self.nothing = Repeated(())
        self.running = 0
        self.connection = ServerConnection(self, settings, self.write)

    def accept(self, stream_id: int, headers: HeaderBlock, *, end: bool) -> None:
        """Begin a call, unless there are too many, this side is going away, or the request cannot be served.

        A stream that the peer has reset no longer counts against it, while its handler may still be ending; unless there
        are as many of those again, which only an attack by resets brings about.
        """
        settings, streams = self.settings, self.connection.streams
        limit = settings.calls_in_flight
        if self._going_away or len(streams) >= limit or self.running >= 2 * limit + settings.calls_ending:
            self.connection.refuse(stream_id)
            return
        request = read_request(headers, self.service.methods, self._subtype)
        if request.refusal is not None:
            self._answer(stream_id, request.refusal, end=end)
            return
        call = ServedCall(self, request, request.method, headers)
        call.id = stream_id
        streams[stream_id] = call
        self.calls.begin(call, call)
        if request.timeout is not None:
            call.limit_time(request.timeout)
        if end:
            call.phase = ENDED
        if end or request.method.cardinality.client_streaming:
            self.start(call)

    def _answer(self, stream_id: int, refusal: Refusal, *, end: bool) -> None:
        """Answer a request that becomes no call."""
        status, message, http_status = refusal
        if http_status == 200:  # noqa: PLR2004 - HTTP's OK
            head = self.head
        else:
            head = Repeated(((b":status", b"%d" % http_status), *self.service.head_fields[1:]))
        block = self.connection.encoder.encode(head)
        block += literal(b"grpc-status", b"%d" % status.value)
        block += literal(b"grpc-message", encode_grpc_message(message).encode("ascii"))
        self.write(frames.header_frames(stream_id, block, end=True, frame_size=self.connection.peer_frame_size))
        if not end:
            self.connection.refuse(stream_id, ErrorCode.NO_ERROR)

    def start(self, call: ServedCall) -> None:
        """Run a call's handler."""
        self.running += 1
        direct = call.request.direct
        call.task = self.loop.create_task(call.run() if direct is None or call.listened else call.run_direct(direct))

    def done(self, call: ServedCall) -> None:
        """Count a call out whose handler has ended, or never began."""
        self.connection.streams.pop(call.id, None)
        if call.task is not None:
            self.running -= 1
        self.calls.finish(call)
        if self.draining:
            self.release(call)

    def release(self, call: ReplySide) -> None:
        """Take a call that is answered off the connection; a draining connection closes after its last."""
        self.connection.forget(call)
        if self.draining and not self.connection.streams:
            self.finish()  # its last answer is still to be read
