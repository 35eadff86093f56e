"""The two sides of a connection: what header blocks mean, and which streams there can be (RFC 9113, sections 5.1 and 8.1)."""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

from supervisor.errors import ConnectionLostError
from supervisor.transport.engine import frames
from supervisor.transport.engine.connection import Connection
from supervisor.transport.engine.faults import FrameOrderError
from supervisor.transport.engine.frames import LARGEST_WINDOW
from supervisor.transport.engine.headers import HeaderBlock
from supervisor.transport.engine.stream import BODY, ENDED, HEAD, PREFIX, Stream

__all__ = ["ClientConnection", "ServerConnection"]

_HEAD: Final = frames.FRAME_HEAD.size
_MESSAGE_HEAD: Final = frames.MESSAGE_HEAD.size
_LAST: Final = frames.END_HEADERS | frames.END_STREAM

_read_head = frames.FRAME_HEAD.unpack_from
_read_message_head = frames.MESSAGE_HEAD.unpack_from


class ClientConnection(Connection):
    """Opens streams, with odd numbers, and receives a response on each: headers, messages, trailers."""

    client_side: ClassVar[bool] = True
    next_id = 1

    def open(self, stream: Stream) -> int:
        """Give a stream the next number; its headers are to be sent now.

        Raises:
            ConnectionLostError: the numbers have been used up.
        """
        stream_id = self.next_id
        if stream_id > LARGEST_WINDOW:
            self._owner.going_away(LARGEST_WINDOW, 0)  # as if the peer had said that it takes no more
            raise ConnectionLostError(
                "the connection has used up its stream ids", maybe_executed=False, hint="open a new one"
            )
        self.next_id = stream_id + 2
        stream.id = stream_id
        stream.send_window = self.initial_send_window
        self.streams[stream_id] = stream
        return stream_id

    def _take_whole(self, stream_id: int, headers: HeaderBlock, data: bytes, at: int, size: int) -> int:
        """Take a reply: headers, the message behind them and the trailers behind that, if the call is unary."""
        kind, flags, same_id, compressed, length = _read_message_head(data, at)
        begin = at + _MESSAGE_HEAD
        end: int = begin + length
        length += PREFIX
        if flags or compressed or same_id != stream_id or kind != length << 8 or size - end < _HEAD:
            return 0
        kind, flags, same_id = _read_head(data, end)
        over: int = end + _HEAD + (kind >> 8)
        if flags != _LAST or same_id != stream_id or kind & 0xFF != frames.HEADERS or over > size:
            return 0
        stream: Stream | None = self.streams.get(stream_id)
        trailers = self._decoder.seen.get(data[end + _HEAD : over])
        if stream is None or trailers is None or length > self.most_whole:
            return 0
        if not stream.take_whole(headers, data[begin:end], trailers):
            return 0
        self._arrived += length
        return over

    def _take_headers(self, stream_id: int, stream: Any, headers: HeaderBlock, end: int) -> Stream | None:
        if stream is None:
            self._check_known(stream_id, "HEADERS")
            self._late_budget.spend("HEADERS on a stream that is over")
            return None
        if stream.phase == HEAD:
            if headers.view is None and not end and headers.is_interim:
                self._budget.spend("interim responses")  # section 8.1: they precede the response and say nothing
                return None
            stream.headers = headers
            stream.phase = BODY
        elif stream.phase == ENDED or not end:
            self._break_stream(stream, "HEADERS came after the end, or are trailers and do not end the stream")
            return None
        if end:
            stream.trailers = headers
            stream.phase = ENDED
        return cast("Stream", stream)

    def _check_known(self, stream_id: int, kind: str) -> None:
        if stream_id % 2 == 0 or stream_id >= self.next_id:
            raise FrameOrderError(f"{kind} came on stream {stream_id}, which was never opened")


class ServerConnection(Connection):
    """Has streams opened by its client, with odd and rising numbers, and receives a request on each."""

    client_side: ClassVar[bool] = False

    def _take_whole(self, stream_id: int, headers: HeaderBlock, data: bytes, at: int, size: int) -> int:
        """Take a request: headers, and the message behind them that ends it."""
        kind, flags, same_id, compressed, length = _read_message_head(data, at)
        begin = at + _MESSAGE_HEAD
        end: int = begin + length
        length += PREFIX
        if flags != frames.END_STREAM or compressed or same_id != stream_id or kind != length << 8 or end > size:
            return 0
        if stream_id <= self.last_peer_stream or not stream_id & 1 or length > self.most_whole:
            return 0
        if not self._owner.accept_whole(stream_id, headers, data[begin:end]):
            return 0
        self.last_peer_stream = stream_id
        self._arrived += length
        return end

    def _take_headers(self, stream_id: int, stream: Any, headers: HeaderBlock, end: int) -> Stream | None:
        if stream is None:
            if stream_id > self.last_peer_stream and stream_id % 2 == 1:
                self.last_peer_stream = stream_id
                self._owner.accept(stream_id, headers, end=bool(end))
            else:
                self._check_known(stream_id, "HEADERS")
                self._budget.spend("HEADERS on a stream that is over")
            return None
        if stream.phase == ENDED or not end:
            self._break_stream(stream, "HEADERS came after the end, or are trailers and do not end the stream")
            return None
        stream.phase = ENDED
        return cast("Stream", stream)

    def _check_known(self, stream_id: int, kind: str) -> None:
        if stream_id % 2 == 0 or stream_id > self.last_peer_stream:
            raise FrameOrderError(f"{kind} came on stream {stream_id}, which was never opened")
