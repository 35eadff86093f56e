"""A yamux session without I/O: bytes in, events out; requests in, bytes out.

The rules are hashicorp/yamux's, also where its README is silent:

- the side that opens a stream sends an empty window update with SYN and need not wait for the ACK;
- only payload counts against a stream's window of 256 KiB; a frame that exceeds it ends the session;
- FIN ends one direction and is answered by the other direction's own; a second one on a stream ends the session;
- RST ends both, and frames for streams that are not there are dropped, since one may have been under way;
- a SYN for a stream that is there ends the session, one too many (256 that nobody has accepted) is answered with RST.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from supervisor.errors import ConnectionLostError, ProtocolViolationError, TransportError
from supervisor.transport.yamux.frames import (
    HEADER_SIZE,
    Flags,
    Frame,
    GoAwayCode,
    Kind,
    decode_header,
    encode_header,
)

__all__ = [
    "BACKLOG",
    "WINDOW",
    "DataReceived",
    "Event",
    "Session",
    "StreamAccepted",
    "StreamEnded",
    "StreamOpened",
    "StreamReset",
]

WINDOW: Final = 256 * 1024
"""Bytes that may be under way on a stream in one direction."""

BACKLOG: Final = 256
"""Streams that the peer may have opened and this side neither accepted nor reset."""

_CHUNK: Final = 32 * 1024
"""Most bytes of one data frame: between two of them other streams have their turn."""

_CONTROL_LIMIT: Final = 256 * 1024
"""Bytes of frames without payload that may wait to be sent; a peer that causes more does not read its answers."""

_MAX_UINT32: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer has opened a stream; `Session.accept` or `Session.reset` it."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamAccepted:
    """The peer has accepted a stream of this side's."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes have arrived, a part of a frame's or all; `Session.consume` them when they are out of the way."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer will send no more on the stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The stream has ended, both ways, without a word."""

    stream_id: int


Event = StreamOpened | StreamAccepted | DataReceived | StreamEnded | StreamReset


class _Stream:
    """What there is to know of one stream."""

    __slots__ = (
        "accepted", "consumed", "end_received", "end_sent", "ending", "id", "outbox", "receive", "scheduled", "send",
    )  # fmt: skip

    def __init__(self, stream_id: int, *, accepted: bool) -> None:
        self.id = stream_id
        self.accepted = accepted  # this side has answered the peer's SYN, or has sent its own
        self.receive = WINDOW  # bytes that the peer may still send
        self.consumed = 0  # bytes that it may send again, once it is told so
        self.send = WINDOW  # bytes that this side may still send
        self.outbox = bytearray()
        self.ending = False  # FIN follows the outbox
        self.end_sent = False
        self.end_received = False
        self.scheduled = False  # it has a place in the round of those that send

    @property
    def sendable(self) -> bool:
        """Whether a frame of this stream may leave now."""
        return (self.send > 0) if self.outbox else (self.ending and not self.end_sent)


class Session:
    """One side of a session.

    After a violation of the protocol the session is over: `failure` says why, `receive` returns nothing more, and what
    is left to take ends with a go-away frame.

    Attributes:
        failure: why it is over; None while it is not.
        draining: whether the peer takes no more streams; those that are open go on.
    """

    def __init__(self, *, client: bool) -> None:
        self.failure: TransportError | None = None
        self.draining = False
        self._client = client
        self._next_id = 1 if client else 2
        self._streams: dict[int, _Stream] = {}
        self._unaccepted = 0
        self._refusing = False
        self._header = bytearray()
        self._payload = 0  # bytes of the current data frame that have not arrived
        self._payload_of: int | None = None
        self._end_after_payload = False
        self._control = bytearray()
        self._sendable: deque[_Stream] = deque()

    @property
    def streams(self) -> int:
        """Streams that have not ended both ways."""
        return len(self._streams)

    def has(self, stream_id: int) -> bool:
        """Whether a stream has not ended both ways."""
        return stream_id in self._streams

    # --- what arrives ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes and return what they mean; never raises, see `failure`."""
        events: list[Event] = []
        view = memoryview(data)
        try:
            while view and self.failure is None:
                if self._payload:
                    chunk, view = view[: self._payload], view[self._payload :]
                    self._take_payload(chunk, events)
                else:
                    missing = HEADER_SIZE - len(self._header)
                    self._header += view[:missing]
                    view = view[missing:]
                    if len(self._header) == HEADER_SIZE:
                        header, self._header = self._header, bytearray()
                        self._take_frame(decode_header(header), events)
        except ProtocolViolationError as error:
            self._fail(error)
        return events

    def _fail(self, error: TransportError) -> None:
        self.failure = error
        self._sendable.clear()
        self._control += encode_header(Kind.GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)

    def _take_payload(self, chunk: memoryview, events: list[Event]) -> None:
        self._payload -= len(chunk)
        stream = self._streams.get(self._payload_of or 0)
        if stream is not None:
            events.append(DataReceived(stream.id, bytes(chunk)))
            if not self._payload and self._end_after_payload:
                self._take_end(stream, events)

    def _take_frame(self, frame: Frame, events: list[Event]) -> None:
        if len(self._control) > _CONTROL_LIMIT:
            raise ProtocolViolationError("the yamux peer asks for answers that it does not read")
        match frame.kind:
            case Kind.PING:
                if frame.flags & Flags.SYN:
                    self._queue(Kind.PING, Flags.ACK, 0, frame.length)
            case Kind.GO_AWAY:
                self._take_go_away(frame.length)
            case _:
                self._take_stream_frame(frame, events)

    def _take_go_away(self, code: int) -> None:
        if code != GoAwayCode.NORMAL:
            names: dict[int, str] = {1: "a protocol error", 2: "an internal error"}
            what = names.get(code, f"code {code}")
            raise ProtocolViolationError(f"the peer ended the yamux session: {what}")
        self.draining = True

    def _take_stream_frame(self, frame: Frame, events: list[Event]) -> None:
        flags = frame.flags
        if flags & Flags.SYN:
            self._take_syn(frame.stream_id, events)
        stream = self._streams.get(frame.stream_id)
        if frame.kind is Kind.DATA:
            self._payload, self._payload_of = frame.length, frame.stream_id
            self._end_after_payload = bool(flags & Flags.FIN and frame.length)
        if stream is None:
            return
        if flags & Flags.ACK:
            events.append(StreamAccepted(stream.id))
        if flags & Flags.RST:
            self._forget(stream)
            events.append(StreamReset(stream.id))
        elif frame.kind is Kind.WINDOW_UPDATE:
            self._widen(stream, frame.length)
        elif frame.length:
            self._charge(stream, frame.length)
        if flags & Flags.FIN and not self._end_after_payload and not flags & Flags.RST:
            self._take_end(stream, events)

    def _take_syn(self, stream_id: int, events: list[Event]) -> None:
        if stream_id in self._streams:
            raise ProtocolViolationError(f"yamux stream {stream_id} was opened twice")
        if not stream_id or stream_id % 2 == self._client:
            raise ProtocolViolationError(f"yamux stream {stream_id} is not one that the peer may open")
        if self._refusing or self._unaccepted >= BACKLOG:
            self._queue(Kind.WINDOW_UPDATE, Flags.RST, stream_id, 0)
            return
        self._streams[stream_id] = _Stream(stream_id, accepted=False)
        self._unaccepted += 1
        events.append(StreamOpened(stream_id))

    def _widen(self, stream: _Stream, delta: int) -> None:
        stream.send += delta
        if stream.send > _MAX_UINT32:
            raise ProtocolViolationError(f"the window of yamux stream {stream.id} was opened too far")
        if delta and stream.sendable:
            self._schedule(stream)

    def _charge(self, stream: _Stream, size: int) -> None:
        if stream.end_received:
            raise ProtocolViolationError(f"yamux stream {stream.id} went on after its end")
        if size > stream.receive:
            raise ProtocolViolationError(
                f"yamux stream {stream.id} exceeded its window: {size} bytes where {stream.receive} were left"
            )
        stream.receive -= size

    def _take_end(self, stream: _Stream, events: list[Event]) -> None:
        if stream.end_received:
            raise ProtocolViolationError(f"yamux stream {stream.id} was ended twice")
        stream.end_received = True
        events.append(StreamEnded(stream.id))
        if stream.end_sent:
            self._forget(stream)

    def _forget(self, stream: _Stream) -> None:
        del self._streams[stream.id]
        stream.outbox.clear()
        if not stream.accepted:
            stream.accepted = True
            self._unaccepted -= 1

    # --- what is asked for -----------------------------------------------------------------------------------------

    def open(self) -> int:
        """Open a stream and return its id; bytes may follow at once.

        Raises:
            ConnectionLostError: the session is over or the peer takes no more streams.
        """
        if self.failure is not None or self.draining or self._next_id >= _MAX_UINT32:
            why = "takes no more streams" if self.failure is None else f"has ended: {self.failure}"
            raise ConnectionLostError(f"the yamux session {why}", maybe_executed=False)
        stream_id = self._next_id
        self._next_id += 2
        self._streams[stream_id] = _Stream(stream_id, accepted=True)
        self._queue(Kind.WINDOW_UPDATE, Flags.SYN, stream_id, 0)
        return stream_id

    def accept(self, stream_id: int) -> None:
        """Accept a stream that the peer has opened; the peer ends the session if that takes longer than 75 seconds."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.accepted:
            stream.accepted = True
            self._unaccepted -= 1
            self._queue(Kind.WINDOW_UPDATE, Flags.ACK, stream_id, 0)

    def write(self, stream_id: int, data: bytes | bytearray | memoryview) -> None:
        """Send bytes when the peer's window allows; dropped when the stream has ended or is ending."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ending and data and self.failure is None:
            idle = not stream.outbox
            stream.outbox += data
            if idle and stream.send:
                self._schedule(stream)

    def unsent(self, stream_id: int) -> int:
        """Return how many bytes of a stream wait to be sent."""
        stream = self._streams.get(stream_id)
        return len(stream.outbox) if stream is not None else 0

    def end(self, stream_id: int) -> None:
        """Send no more on a stream, after what was written. Idempotent."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ending and self.failure is None:
            stream.ending = True
            if not stream.outbox:
                self._schedule(stream)

    def reset(self, stream_id: int) -> None:
        """End a stream both ways; what was written and has not left is dropped. Idempotent."""
        stream = self._streams.get(stream_id)
        if stream is not None and self.failure is None:
            self._forget(stream)
            self._queue(Kind.WINDOW_UPDATE, Flags.RST, stream_id, 0)

    def consume(self, stream_id: int, size: int) -> None:
        """Let the peer send `size` bytes more, in exchange for as many that are out of the way."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.end_received or self.failure is not None:
            return
        stream.consumed += size
        if stream.consumed >= WINDOW // 2:
            self._queue(Kind.WINDOW_UPDATE, 0, stream_id, stream.consumed)
            stream.receive += stream.consumed
            stream.consumed = 0

    def go_away(self) -> None:
        """Take no more streams; those that are open go on. Idempotent."""
        if not self._refusing:
            self._refusing = True
            self._queue(Kind.GO_AWAY, 0, 0, GoAwayCode.NORMAL)

    # --- what leaves -----------------------------------------------------------------------------------------------

    def take(self, limit: int) -> bytes:
        """Return the next bytes to send: about `limit` of them if there are, none if there are none.

        Frames without payload go first; then the streams take turns.
        """
        taken = self._control
        self._control = bytearray()
        while self._sendable and len(taken) < limit:
            stream = self._sendable.popleft()
            stream.scheduled = False
            if self._streams.get(stream.id) is stream and stream.sendable:
                self._take_from(stream, taken)
        return bytes(taken)

    def _take_from(self, stream: _Stream, taken: bytearray) -> None:
        if stream.outbox:
            size = min(len(stream.outbox), stream.send, _CHUNK)
            taken += encode_header(Kind.DATA, 0, stream.id, size)
            taken += memoryview(stream.outbox)[:size]
            del stream.outbox[:size]
            stream.send -= size
        else:
            taken += encode_header(Kind.WINDOW_UPDATE, Flags.FIN, stream.id, 0)
            stream.end_sent = True
            if stream.end_received:
                self._forget(stream)
                return
        if stream.sendable:
            self._schedule(stream)

    def _schedule(self, stream: _Stream) -> None:
        if not stream.scheduled:
            stream.scheduled = True
            self._sendable.append(stream)

    def _queue(self, kind: Kind, flags: int, stream_id: int, length: int) -> None:
        if self.failure is None:
            self._control += encode_header(kind, flags, stream_id, length)
