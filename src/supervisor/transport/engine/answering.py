"""The server's side of a connection: which requests become calls, and what runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from grpclib.const import Status

from supervisor.transport.codec import MessageCodec, Pieces
from supervisor.transport.engine import frames
from supervisor.transport.engine.compression import ACCEPTED
from supervisor.transport.engine.faults import ErrorCode
from supervisor.transport.engine.headers import Fields, HeaderBlock, Repeated, literal
from supervisor.transport.engine.protocol import EngineProtocol
from supervisor.transport.engine.replying import ReplySide
from supervisor.transport.engine.request import Refusal, RequestHead, read_request
from supervisor.transport.engine.roles import ServerConnection
from supervisor.transport.engine.serving import ServedCall
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import ENDED
from supervisor.transport.engine.waiting import new_task
from supervisor.transport.service import Service
from supervisor.transport.under_way import STOPPING, CallsUnderWay, CallUnderWay

__all__ = ["ServerProtocol"]

_HTTP_OK: Final = 200
_OK: Final = (b"grpc-status", b"0")

_STOPPING: Final[Refusal] = Status.UNAVAILABLE, STOPPING, 200

_HEAD: Final[Fields] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPTED),
)


class ServerProtocol(EngineProtocol):
    """A server's side: a task for each call."""

    connection: ServerConnection

    def __init__(self, service: Service, settings: WireSettings, under_way: CallsUnderWay) -> None:
        super().__init__(settings)
        self.service = service
        self.under_way = under_way
        self.listeners = service.listeners
        codec = service.codec
        self.encode: Callable[[Any, Any], bytes | Pieces] = (
            codec.encode_pieces if isinstance(codec, MessageCodec) else codec.encode
        )
        self._subtype = service.codec.__content_subtype__.encode("ascii")
        self.head = Repeated(_HEAD)
        self.head_only = Repeated((*_HEAD, _OK))
        self.ok = Repeated((_OK,))
        self.nothing = Repeated(())
        self.running = 0
        self.connection = ServerConnection(self, settings, self.write)

    def accept(self, stream_id: int, headers: HeaderBlock, *, end: bool) -> None:
        """Begin a call, unless there are too many, this side is going away, or the request cannot be served."""
        if self._is_full():
            self.connection.refuse(stream_id)
            return
        request = self._read(headers)
        calls = self._place(request)
        if request.refusal is not None or calls is None:
            self._answer(stream_id, request.refusal or _STOPPING, end=end)
            return
        call = ServedCall(self, stream_id, request, headers, calls)
        call.room = self.connection.stream_room
        call.reading = not request.streams  # the handler begins when the request is whole
        self.connection.streams[stream_id] = call
        calls.add(call)
        if request.timeout is not None:
            call.limit_time(request.timeout)
        if end:
            call.phase = ENDED
        if end or request.streams:
            self.start(call)

    def accept_whole(self, stream_id: int, headers: HeaderBlock, message: bytes) -> bool:
        """Begin a unary call whose request is whole, if its handler does nothing but answer the message."""
        request: RequestHead = headers.view or self._read(headers)
        direct = request.direct
        if direct is None or request.refusal is not None or self.listeners or self._is_full():
            return False
        under_way = self.under_way
        if request.background:
            calls = under_way.others
        elif under_way.draining:
            return False
        else:
            calls = under_way.counted
        call = ServedCall(self, stream_id, request, headers, calls)
        call.phase = ENDED
        call.messages.append(message)
        self.connection.streams[stream_id] = call
        calls.add(call)
        if request.timeout is not None:
            call.limit_time(request.timeout)
        self.running += 1
        call.started = True
        call.task = new_task(self.loop, call.run_direct(direct, message), request.path)
        return True

    def _read(self, headers: HeaderBlock) -> RequestHead:
        return read_request(headers, self.service.methods, self._subtype, self.under_way.background)

    def _is_full(self) -> bool:
        """Whether no more calls are taken: too many are open, or this side is going away.

        A stream that the peer has reset no longer counts against it, while its handler may still be ending; unless there
        are as many of those again, which only an attack by resets brings about.
        """
        settings = self.settings
        limit = settings.calls_in_flight
        return (
            self._going_away
            or len(self.connection.streams) >= limit
            or self.running >= 2 * limit + settings.calls_ending
        )

    def _place(self, request: RequestHead) -> set[CallUnderWay] | None:
        """Return where its call is to be counted; None when it is not taken any more."""
        under_way = self.under_way
        if request.background:
            return under_way.others
        return None if under_way.draining else under_way.counted

    def _answer(self, stream_id: int, refusal: Refusal, *, end: bool) -> None:
        """Answer a request that becomes no call."""
        status, message, http_status = refusal
        usual = http_status == _HTTP_OK
        head = self.head if usual else Repeated(((b":status", b"%d" % http_status), *_HEAD[1:]))
        block = self.connection.encoder.encode(head)
        block += literal(b"grpc-status", b"%d" % status.value)
        from grpclib.metadata import encode_grpc_message  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

        block += literal(b"grpc-message", encode_grpc_message(message).encode("ascii"))
        self.write(frames.header_frames(stream_id, block, end=True, frame_size=self.connection.peer_frame_size))
        if not end:
            self.connection.refuse(stream_id, ErrorCode.NO_ERROR)

    def start(self, call: ServedCall) -> None:
        """Run a call's handler."""
        self.running += 1
        call.started = True
        direct = call.request.direct
        if (
            direct is None
            or self.listeners
            or call.fault is not None
            or len(call.messages) != 1
            or type(call.messages[0]) is not bytes
        ):
            coroutine = call.run()
        else:
            coroutine = call.run_direct(direct, call.messages[0])
        call.task = new_task(self.loop, coroutine, call.request.path)

    def done(self, call: ServedCall) -> None:
        """Count a call out whose handler has ended, or never began."""
        self.connection.streams.pop(call.id, None)
        if call.started:  # `task` is not there yet when it ran eagerly
            self.running -= 1
            call.task = None  # its context holds the call
        calls = call.siblings
        calls.discard(call)
        if not calls:
            self.under_way.tell()
        if self.draining:
            self.release(call)

    def release(self, call: ReplySide) -> None:
        """Take a call that is answered off the connection; a draining connection closes after its last."""
        self.connection.forget(call)
        if self.draining and not self.connection.streams:
            self.finish()  # its last answer is still to be read
