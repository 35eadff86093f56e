"""From bytes to frames (RFC 9113, section 4), and what to do about those that nearly all are. No I/O.

This is where a call costs most. So a message that fills its frame, and a header block that was seen before, are dealt with in
the loop that finds them; and a unary request or reply that has arrived in one piece, as they do when both sides send them so,
is taken in one step. Any other frame goes to `call_frames` or `connection`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from supervisor.transport.engine import frames
from supervisor.transport.engine.call_frames import CallFrames
from supervisor.transport.engine.faults import (
    FrameOrderError,
    FrameSizeError,
    PrefaceError,
    WindowError,
)
from supervisor.transport.engine.frames import LARGEST_WINDOW
from supervisor.transport.engine.headers import HeaderBlock
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import BODY, ENDED, PREFIX, Stream
from supervisor.transport.tls_records import is_tls_record

__all__ = ["FrameReceiver"]

_HEAD: Final = frames.FRAME_HEAD.size
_LARGE: Final = 16_384
_REPORT_AT: Final = 1 << 30
_MESSAGE_HEAD: Final = frames.MESSAGE_HEAD.size
_WHOLE: Final = frames.END_HEADERS | frames.END_STREAM

_read_head = frames.FRAME_HEAD.unpack_from
_read_prefix = frames.MESSAGE_PREFIX.unpack_from


class FrameReceiver(CallFrames):
    """The receiving half of a connection; `Connection` is the rest.

    Attributes:
        most_whole: bytes of a message, head included, that is taken in one step.
    """

    client_side: ClassVar[bool]

    def __init__(self, settings: WireSettings, write: Callable[[bytes], None], clock: Callable[[], float]) -> None:
        super().__init__(settings, write, clock)
        self.most_whole = min(settings.stream_window, settings.frame_size, settings.message_size + PREFIX)
        self._pieces: list[bytes] = []  # of a frame that has not arrived in whole
        self._pieces_size = 0
        self._wanted = 0  # bytes from the begin of `_pieces` on, until more can be done
        self._begun = False  # the peer has sent its preface, if it is to, and the head of its first SETTINGS
        self._open: Stream | None = None  # whose large frame is being taken
        self._open_left = self._open_ends = 0

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer.

        Raises:
            WireViolationError: they break the rules; a GOAWAY with its code is what the peer should get.
        """
        if self._open_left:
            data = self._receive_rest(data)
            if not data:
                return
        if self._pieces:
            self._pieces.append(data)
            self._pieces_size += len(data)
            if self._pieces_size < self._wanted:
                return
            data = b"".join(self._pieces)
            self._pieces = []
        at = 0 if self._begun else self._receive_first(data)
        if at < 0:
            return
        at = self._receive_frames(data, at)
        if at < len(data):
            self._pieces = [data[at:] if at else data]
            self._pieces_size = len(data) - at

    def _receive_frames(self, data: bytes, at: int) -> int:  # noqa: C901, PLR0912, PLR0915 - see the module's docstring
        """Act on the frames in `data` from `at` on; return where the first one begins that is not whole.

        A stream is woken once for all that arrived on it in a row: a reply's message does not wake its caller when its
        status comes right behind it.
        """
        streams, size, most = self.streams, len(data), self.settings.frame_size
        seen = self._decoder.seen
        most_message, arrived = self.settings.message_size + PREFIX, 0
        touched: Stream | None = None
        while size - at >= _HEAD:
            kind, flags, stream_id = _read_head(data, at)
            start = at + _HEAD
            length = kind >> 8
            end = start + length
            if end > size or length > most:
                if length > most:
                    raise FrameSizeError(f"a frame of {length} bytes is over the limit of {most}")
                if kind & 0xFF == frames.DATA and length >= _LARGE and self._receive_begin(flags, stream_id, length):
                    stream = streams[stream_id]
                    self._take_part(stream, memoryview(data)[start:])
                    self._open_left = end - size
                    at = size
                else:
                    self._wanted = end - at
                break
            at = end
            kind &= 0xFF
            if stream_id > LARGEST_WINDOW:
                stream_id &= LARGEST_WINDOW  # the reserved bit is to be ignored (section 4.1)
            if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_stream):
                raise FrameOrderError("a header block was interrupted")
            if kind == frames.DATA:
                stream = streams.get(stream_id)
                if stream is not touched:
                    if touched is not None:
                        touched.wake()
                    touched = stream
                if (
                    stream is not None
                    and flags <= frames.END_STREAM
                    and stream.phase == BODY
                    and length >= PREFIX
                    and _read_prefix(data, start) == (0, length - PREFIX)
                    and stream._parts is None  # noqa: SLF001 - a stream is this package's, and this its hottest place
                    and length <= stream.room
                    and length <= most_message
                    and stream.fault is None
                ):
                    # A frame that is exactly one message, as nearly all are.
                    stream.room -= length
                    arrived += length
                    stream.messages.append(data[start + PREFIX : end])
                    if flags:
                        stream.phase = ENDED
                else:
                    self._receive_data(stream, stream_id, flags, data[start:end])
            elif kind == frames.HEADERS:
                block = data[start:end]
                if flags == frames.END_HEADERS or flags == _WHOLE:  # noqa: PLR1714 - a set costs more
                    headers = seen.get(block) or self._decode(block)
                    if flags == frames.END_HEADERS and size - end >= _MESSAGE_HEAD:
                        if touched is not None:  # calls begin in the order in which they came
                            touched.wake()
                            touched = None
                        whole = self._take_whole(stream_id, headers, data, end, size)
                        if whole:
                            at = whole
                            continue
                    stream = self._take_headers(stream_id, streams.get(stream_id), headers, flags & frames.END_STREAM)
                else:
                    stream = self._receive_headers(stream_id, flags, block)
                if stream is not touched:
                    if touched is not None:
                        touched.wake()
                    touched = stream
            else:
                self._receive_other(kind, flags, stream_id, data[start:end])
        else:
            self._wanted = _HEAD
        if touched is not None:
            touched.wake()
        self._arrived += arrived
        if self._arrived >= _REPORT_AT:  # of the connection's window, on arrival: only the streams' hold the peer back
            self.write(frames.window_update(0, self._arrived))
            self._arrived = 0
        return at

    def _receive_first(self, data: bytes) -> int:
        """Check the preface and that SETTINGS come first (section 3.4); return where frames begin, or -1 for not yet."""
        preface = b"" if self.client_side else frames.PREFACE
        begin = len(preface)
        if is_tls_record(data):
            raise PrefaceError("the peer speaks TLS, and this side was not told to")
        if data[:begin] != preface[: len(data)]:
            raise PrefaceError("the peer does not speak HTTP/2")
        if len(data) >= begin + _HEAD:
            kind, flags, stream_id = _read_head(data, begin)
            if kind >> 8 > self.settings.frame_size:
                raise FrameSizeError("the peer's first frame is too large: it does not speak HTTP/2")
            if kind & 0xFF != frames.SETTINGS or flags & frames.ACK or stream_id:
                raise PrefaceError("the peer did not send its settings first: it does not speak HTTP/2")
            self._begun = True
            return begin
        self._pieces, self._pieces_size, self._wanted = [data], len(data), begin + _HEAD
        return -1

    # --- DATA that is large: taken before it is whole, so that it is copied once --------------------------------------

    def _receive_begin(self, flags: int, stream_id: int, length: int) -> bool:
        """Begin to take a large frame before it is whole, if nothing is odd about it: so it is copied once."""
        stream = self.streams.get(stream_id)
        if stream is None or flags > frames.END_STREAM or stream.phase != BODY or self._block is not None:
            return False
        if stream.room < length:
            raise WindowError(f"stream {stream_id} is over its window")
        stream.room -= length
        self._arrived += length
        self._open, self._open_ends = stream, flags
        return True

    def _receive_rest(self, data: bytes) -> bytes:
        """Take more of a large frame; return what is behind it."""
        stream, left = self._open, self._open_left
        assert stream is not None
        if len(data) < left:
            self._open_left = left - len(data)
            self._take_part(stream, data)
            return b""
        self._open_left, self._open = 0, None
        self._take_part(stream, memoryview(data)[:left])
        if self._open_ends:
            stream.phase = ENDED
        stream.wake()
        return data[left:]

    def _take_part(self, stream: Stream, data: bytes | memoryview) -> None:
        if self.streams.get(stream.id) is stream:  # else its call has ended meanwhile
            stream.take_data(data)
            if stream.messages:
                stream.wake()

    # --- what the other half and the role decide ---------------------------------------------------------------------

    def _receive_other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Act on a frame that carries neither messages nor headers."""
        raise NotImplementedError

    def _take_whole(self, stream_id: int, headers: HeaderBlock, data: bytes, at: int, size: int) -> int:
        """Act on a unary message that fills the frame at `at`, right behind its headers; return where it ends.

        Whatever is not as nearly all unary calls are is not acted on: return 0, and it goes the usual way.
        """
        raise NotImplementedError
