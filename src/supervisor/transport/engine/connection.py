"""One HTTP/2 connection as gRPC uses it (RFC 9113), without I/O: bytes in, calls on streams and on its owner out.

`receive` takes what arrived, in any pieces; what is to be sent goes to `write`, frame by frame or several at once. It
raises `WireViolationError` when the peer broke the rules, and is of no use after that. Priorities are ignored, as section
5.3 allows, and push is refused.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from supervisor.transport.engine import frames
from supervisor.transport.engine.faults import (
    ErrorCode,
    FrameOrderError,
    FrameSizeError,
    MetadataTooLargeError,
    SettingError,
    WindowError,
)
from supervisor.transport.engine.flood import Budget
from supervisor.transport.engine.frames import LARGEST_WINDOW, Setting
from supervisor.transport.engine.headers import BlockEncoder, Fields, HeaderBlock, list_size, read_literals
from supervisor.transport.engine.reading import FrameReceiver
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import ENDED, PREFIX, Stream

__all__ = ["Connection", "Owner"]

_DEFAULT_WINDOW: Final = 65_535
_CRUMB: Final = 4096
"""Bytes below which to open a window further than it was is work for nothing."""
_MOST_OVER: Final = 1024
_LATE: Final = 20
_CHEAP: Final = 16
"""Settings, or streams that all are looked at, for the price of a frame."""
_LENGTHS: Final = {frames.PING: 8, frames.PRIORITY: 5, frames.RST_STREAM: 4, frames.WINDOW_UPDATE: 4}
"""Lengths that frames must have, by type."""
_GOAWAY_SIZE: Final = 8
_MOST_EXTRA: Final = 8192
"""Bytes of metadata that every peer takes in one frame with the rest of the headers."""
_USUAL_HEAD: Final = 2048
"""Bytes, as a limit on a header list counts them, that the rest of the headers do not exceed."""
_LEAST_LITERAL: Final = 7
"""How many times larger such a limit finds a field than it is, at most: 34 bytes for a literal of 5."""
_SETTING_SIZE: Final = 6

_read_uint32 = struct.Struct(">I").unpack
_read_goaway = struct.Struct(">II").unpack_from
_read_settings = struct.Struct(">HI").iter_unpack


class Owner(Protocol):
    """Who has a connection, and hears of what concerns more than one stream, or a new one."""

    def accept(self, stream_id: int, headers: HeaderBlock, *, end: bool) -> None:
        """A client opened a stream."""

    def accept_whole(self, stream_id: int, headers: HeaderBlock, message: bytes) -> bool:
        """A client made a unary call, in one piece; to be refused, by returning False, when it is for `accept`."""

    def stream_reset(self, stream: Any, code: int) -> None:
        """The peer reset a stream, which is no longer among the connection's."""

    def windows_opened(self) -> None:
        """More may be sent than before, on the connection or on every stream."""

    def settings_heard(self) -> None:
        """The peer has sent settings."""

    def settings_taken(self) -> None:
        """The peer has taken this side's settings: it speaks HTTP/2 and is not asleep."""

    def going_away(self, last_stream_id: int, code: int) -> None:
        """The peer takes no more streams, and none of this side's above one."""


class Connection(FrameReceiver):
    """The state of one connection, and what each frame does to it.

    Attributes:
        send_window: bytes that the peer takes on all streams together.
        initial_send_window: bytes that the peer takes on a new stream.
        peer_frame_size: bytes that the peer takes in one frame.
        peer_streams: streams that the peer takes at once.
        last_peer_stream: the highest stream that the peer has opened.
        stream_room: bytes that the peer may send on a new stream.
        peer_header_list: bytes that the peer takes in one header list.
        extra_uncounted: bytes of metadata, encoded, that are within any limit of the peer's on headers.
        encoder: makes the header blocks for the peer.
    """

    def __init__(
        self,
        owner: Owner,
        settings: WireSettings,
        write: Callable[[bytes], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, write, clock)
        self.send_window = self._highest_window = _DEFAULT_WINDOW
        self.initial_send_window = _DEFAULT_WINDOW
        self.peer_frame_size = frames.SMALLEST_FRAME_SIZE
        self.peer_streams = LARGEST_WINDOW
        self.peer_header_list = LARGEST_WINDOW
        self.extra_uncounted = _MOST_EXTRA
        self.last_peer_stream = 0
        self.stream_room = settings.stream_window
        self.encoder = BlockEncoder()
        # A peer may acknowledge what it has read of every call after that is over.
        self._late_budget = Budget(_LATE * settings.control_burst, _LATE * settings.control_rate, clock)
        self._pinged_at = 0
        self._owner = owner

    # --- what this side says -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Say the first words, as both sides do without waiting (section 3.4)."""
        settings = self.settings
        values = [
            (Setting.HEADER_TABLE_SIZE, settings.header_table),
            (Setting.MAX_CONCURRENT_STREAMS, settings.calls_in_flight),
            (Setting.INITIAL_WINDOW_SIZE, settings.stream_window),
            (Setting.MAX_FRAME_SIZE, settings.frame_size),
            (Setting.MAX_HEADER_LIST_SIZE, settings.header_list),
        ]
        if self.client_side:
            values.append((Setting.ENABLE_PUSH, 0))
        preface = frames.PREFACE if self.client_side else b""
        widest = frames.window_update(0, LARGEST_WINDOW - _DEFAULT_WINDOW)
        self.write(preface + frames.settings(values) + widest)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream both ways, unless it has ended; it stays among `streams` until its owner takes it out."""
        if not stream.closed and not (stream.phase == ENDED and stream.sent_end):
            stream.closed = True
            self.write(frames.rst_stream(stream.id, code))

    def refuse(self, stream_id: int, code: int = ErrorCode.REFUSED_STREAM) -> None:
        """Reset a stream that was never opened here; by default it is safe to repeat elsewhere (section 8.7)."""
        self._note_over(stream_id, self.settings.stream_window)
        self.write(frames.rst_stream(stream_id, code))

    def forget(self, stream: Stream) -> None:
        """Take a stream whose call is over out of `streams`."""
        if self.streams.pop(stream.id, None) is not None and stream.phase != ENDED:
            self._note_over(stream.id, stream.room)

    def _note_over(self, stream_id: int, room: int) -> None:
        """Remember what the peer may still have sent before it heard that a stream is over."""
        self._over[stream_id] = room
        if len(self._over) > _MOST_OVER:
            del self._over[next(iter(self._over))]

    def go_away(self, code: int = ErrorCode.NO_ERROR, debug: str = "") -> None:
        """Tell the peer to open no more streams; without an error those that are open are served (section 6.8)."""
        self.write(frames.goaway(self.last_peer_stream, code, debug.encode()[:200]))

    def open_window(self, stream: Stream, size: int) -> None:
        """Let the peer send `size` more bytes on a stream."""
        if not stream.closed:
            stream.room += size
            self.write(frames.window_update(stream.id, size))

    def check_header_list(self, fields: Fields, extra: bytes) -> None:
        """See that the peer takes headers: those of `fields`, and the literals of `extra`.

        A peer may do as it likes with what is larger; grpcio resets the call, others the connection.

        Raises:
            MetadataTooLargeError: it does not.
        """
        if len(extra) > self.extra_uncounted:
            size, limit = list_size(fields) + list_size(read_literals(extra)), self.peer_header_list
            if size > limit:
                raise MetadataTooLargeError(
                    f"headers of {size} bytes are over the peer's limit of {limit}", size=size, limit=limit
                )

    # --- what the peer says --------------------------------------------------------------------------------------------

    def _receive_other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != _LENGTHS.get(kind, len(payload)):
            raise FrameSizeError(f"a frame of type {kind} has a length that it cannot have")
        match kind:
            case frames.WINDOW_UPDATE:
                self._receive_window_update(stream_id, payload)
            case frames.RST_STREAM:
                self._receive_reset(stream_id, payload)
            case frames.SETTINGS:
                self._receive_settings(flags, stream_id, payload)
            case frames.PING:
                self._receive_ping(flags, stream_id, payload)
            case frames.GOAWAY:
                _check_length(kind, right=len(payload) >= _GOAWAY_SIZE)
                _check_stream(kind, right=stream_id == 0)
                last, code = _read_goaway(payload)
                self._budget.spend("GOAWAY", 1 + len(self.streams) // _CHEAP)  # each is looked at
                self._owner.going_away(last & LARGEST_WINDOW, code)
            case frames.CONTINUATION:
                self._receive_continuation(flags, stream_id, payload)
            case frames.PUSH_PROMISE:
                raise FrameOrderError("the peer pushes, which it was told not to")
            case frames.PRIORITY:
                _check_stream(kind, right=stream_id != 0)
                self._budget.spend("PRIORITY")
            case _:
                self._budget.spend("frames of unknown types")  # to be ignored (section 4.1)

    def _receive_window_update(self, stream_id: int, payload: bytes) -> None:
        """Section 6.9. Beyond what it restores of a window, and in crumbs, an update counts as a flood."""
        size = _read_uint32(payload)[0] & LARGEST_WINDOW
        if size == 0:
            raise FrameOrderError("WINDOW_UPDATE opens nothing")
        stream = self.streams.get(stream_id)
        if stream is not None:
            wider, window = stream.open_send_window(size), stream.send_window
        elif stream_id:
            self._check_known(stream_id, "WINDOW_UPDATE")
            self._late_budget.spend("WINDOW_UPDATE on a stream that is over")
            return
        else:
            self.send_window = window = self.send_window + size
            wider = window > self._highest_window
            self._highest_window = max(self._highest_window, window)
        if window > LARGEST_WINDOW:
            raise WindowError("a window was opened beyond the protocol's largest")
        if size < (_CRUMB if wider else PREFIX):
            self._budget.spend("WINDOW_UPDATE")
        if stream is not None:
            stream.wake()
        else:
            self._owner.windows_opened()

    def _receive_reset(self, stream_id: int, payload: bytes) -> None:
        """Section 6.4. A client's stream can be reset once; a server's client may open and reset without end."""
        stream = self.streams.pop(stream_id, None)
        if stream is None or not self.client_side:
            (self._late_budget if stream is not None else self._budget).spend("RST_STREAM")
        if stream is None:
            self._check_known(stream_id, "RST_STREAM")
            return
        stream.closed = True
        self._owner.stream_reset(stream, _read_uint32(payload)[0])

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Section 6.7."""
        _check_stream(frames.PING, right=stream_id == 0)
        if self._pinged_at == self._arrived:  # a PING beside calls, as grpc-go sends to measure, is no work for nothing
            self._budget.spend("PING")
        self._pinged_at = self._arrived
        if not flags & frames.ACK:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Section 6.5."""
        _check_stream(frames.SETTINGS, right=stream_id == 0)
        self._budget.spend("SETTINGS")
        if flags & frames.ACK:
            _check_length(frames.SETTINGS, right=not payload)
            self._owner.settings_taken()
            return
        _check_length(frames.SETTINGS, right=len(payload) % _SETTING_SIZE == 0)
        self._budget.spend("SETTINGS", len(payload) // _SETTING_SIZE // _CHEAP)
        for number, value in _read_settings(payload):
            self._apply_setting(number, value)
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._owner.settings_heard()
        self._owner.windows_opened()

    def _apply_setting(self, number: int, value: int) -> None:
        """Section 6.5.2; a setting that is not known, or does not matter to gRPC, is ignored."""
        match number:
            case Setting.HEADER_TABLE_SIZE:
                self.encoder.limit_table(value)
            case Setting.MAX_CONCURRENT_STREAMS:
                self.peer_streams = value
            case Setting.INITIAL_WINDOW_SIZE:
                self._set_initial_window(value)
            case Setting.MAX_FRAME_SIZE:
                if not frames.SMALLEST_FRAME_SIZE <= value < 1 << 24:
                    raise SettingError(f"a largest frame of {value} bytes cannot be")
                self.peer_frame_size = min(value, self.settings.frame_size)
            case Setting.MAX_HEADER_LIST_SIZE:
                self.peer_header_list = value
                self.extra_uncounted = min(max(0, value - _USUAL_HEAD) // _LEAST_LITERAL, _MOST_EXTRA)
            case Setting.ENABLE_PUSH:
                if value > (0 if self.client_side else 1):
                    raise SettingError("ENABLE_PUSH has a value that it cannot have")

    def _set_initial_window(self, size: int) -> None:
        """Section 6.9.2: what is open changes too, and may become negative."""
        if size > LARGEST_WINDOW:
            raise WindowError("the initial window is beyond the protocol's largest")
        change, self.initial_send_window = size - self.initial_send_window, size
        self._budget.spend("SETTINGS that change every window", 1 + len(self.streams) // _CHEAP)
        for stream in self.streams.values():
            if stream.open_send_window(change) and stream.send_window > LARGEST_WINDOW:
                raise WindowError("a window was opened beyond the protocol's largest")

    # --- checks ------------------------------------------------------------------------------------------------------

    def _break_stream(self, stream: Stream, why: str) -> None:
        """End one stream whose peer goes on after its own end (section 5.1); any other disorder ends the connection."""
        if stream.phase != ENDED:
            raise FrameOrderError(f"{why} on stream {stream.id}")
        self._budget.spend(why)
        self.reset(stream, ErrorCode.STREAM_CLOSED)
        stream.end_with(lambda: FrameOrderError(why))


def _check_length(kind: int, *, right: bool) -> None:
    if not right:
        raise FrameSizeError(f"a frame of type {kind} has a length that it cannot have")


def _check_stream(kind: int, *, right: bool) -> None:
    if not right:
        raise FrameOrderError(f"a frame of type {kind} came on a stream where it may not come")
