"""The frames that carry calls: DATA, HEADERS and CONTINUATION (RFC 9113, sections 6.1, 6.2 and 6.10). No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from supervisor.transport.engine import frames
from supervisor.transport.engine.faults import FrameOrderError, FrameSizeError, HeaderListTooLargeError, WindowError
from supervisor.transport.engine.flood import Budget
from supervisor.transport.engine.headers import BlockDecoder, HeaderBlock
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import BODY, ENDED, Stream

__all__ = ["CallFrames"]

_PRIORITY_SIZE: Final = 5


class CallFrames:
    """What a frame that carries a call does to its stream, whatever is odd about it.

    Attributes:
        streams: those that are open, by id; whoever opens one takes it out when its call is over.
        settings: this side's bounds.
        write: takes bytes to be sent.
    """

    def __init__(self, settings: WireSettings, write: Callable[[bytes], None], clock: Callable[[], float]) -> None:
        self.settings = settings
        self.write = write
        self.streams: dict[int, Any] = {}
        self._budget = Budget(settings.control_burst, settings.control_rate, clock)
        self._decoder = BlockDecoder(table_size=settings.header_table, list_size=settings.header_list)
        self._over: dict[int, int] = {}  # streams that were ended from here → bytes that may be on their way
        self._arrived = 0  # bytes of DATA of which the peer has not been told
        self._block: list[bytes] | None = None  # a header block that goes on in CONTINUATION
        self._block_size = self._block_stream = self._block_ends = 0

    def _receive_data(self, stream: Stream | None, stream_id: int, flags: int, payload: bytes) -> None:
        """Take a frame that is not exactly one message, or that should not be here."""
        length = len(payload)
        self._arrived += length
        if stream is None:
            self._check_known(stream_id, "DATA")
            room = self._over.get(stream_id, 0) - length
            if room < 0 or not length:
                self._budget.spend("DATA on a stream that is over")
            else:
                self._over[stream_id] = room
            return
        if stream.phase != BODY:
            self._break_stream(stream, "DATA came before the headers or after the end")
            return
        stream.room -= length
        if stream.room < 0:
            raise WindowError(f"stream {stream_id} is over its window")
        if flags & frames.PADDED:
            payload = _unpad(payload)
            stream.release(length - len(payload))
        if payload:
            stream.take_data(payload)
        elif not flags & frames.END_STREAM:
            self._budget.spend("empty DATA")
        if flags & frames.END_STREAM:
            stream.phase = ENDED

    def _receive_headers(self, stream_id: int, flags: int, block: bytes) -> Stream | None:
        if flags & frames.PADDED:
            block = _unpad(block)
        if flags & frames.PRIORITY_FIELDS:
            if len(block) < _PRIORITY_SIZE:
                raise FrameSizeError("HEADERS are too short for their fields")
            block = block[_PRIORITY_SIZE:]
        if not flags & frames.END_HEADERS:
            self._block, self._block_stream = [block], stream_id
            self._block_size, self._block_ends = len(block), flags & frames.END_STREAM
            return None
        return self._take_block(stream_id, block, flags & frames.END_STREAM)

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None:
            raise FrameOrderError("CONTINUATION continues nothing")
        if not payload:
            self._budget.spend("empty CONTINUATION")
        self._block.append(payload)
        self._block_size += len(payload)
        if self._block_size > self.settings.header_list:  # checked as it grows, or it would grow without end
            raise HeaderListTooLargeError(
                f"a header block is over {self.settings.header_list} bytes", limit=self.settings.header_list
            )
        if flags & frames.END_HEADERS:
            block, self._block = b"".join(self._block), None
            stream = self._take_block(stream_id, block, self._block_ends)
            if stream is not None:
                stream.wake()

    def _take_block(self, stream_id: int, block: bytes, end: int) -> Stream | None:
        headers = self._decode(block)  # in any case: the table must follow
        return self._take_headers(stream_id, self.streams.get(stream_id), headers, end)

    def _decode(self, block: bytes) -> HeaderBlock:
        if len(block) > self.settings.header_list:
            raise HeaderListTooLargeError(
                f"a header block is over {self.settings.header_list} bytes", limit=self.settings.header_list
            )
        return self._decoder.decode(block)

    # --- what the role and the connection decide ----------------------------------------------------------------------

    def _take_headers(self, stream_id: int, stream: Any, headers: HeaderBlock, end: int) -> Stream | None:
        """Act on headers; return the stream that they concerned, unless it is new or over. `end`: END_STREAM came."""
        raise NotImplementedError

    def _check_known(self, stream_id: int, kind: str) -> None:
        """Raise unless the stream was open once: what comes late is ignored, on an idle stream it may not come (5.1)."""
        raise NotImplementedError

    def _break_stream(self, stream: Stream, why: str) -> None:
        """End one stream, or the connection, whose frames make no sense."""
        raise NotImplementedError


def _unpad(payload: bytes) -> bytes:
    """Return the payload of a padded frame (section 6.1)."""
    if not payload or payload[0] >= len(payload):
        raise FrameOrderError("a frame is padded with more than it has")
    return payload[1 : len(payload) - payload[0]]
