"""One HTTP/2 stream (RFC 9113, section 5): what has arrived on it, and how much may be sent. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from supervisor.errors import MessageTooLargeError
from supervisor.transport.engine.headers import HeaderBlock

if TYPE_CHECKING:
    from supervisor.transport.engine.connection import Connection

__all__ = ["BODY", "ENDED", "HEAD", "PREFIX", "Compressed", "MakeError", "Stream", "too_large"]

MakeError = Callable[[], Exception]
"""Builds the error afresh for each raise: an instance raised twice would collect both tracebacks."""

HEAD: Final = 0
BODY: Final = 1
ENDED: Final = 2
"""What the peer may send next: its headers; messages and trailers; nothing."""

PREFIX: Final = 5
"""Bytes before each message: compressed or not, then the length."""


_MESSAGES: Final = 32
"""Messages that may be under way on a stream, as far as the windows allow."""


_SMALL_PART: Final = 1024
_MOST_CRUMBS: Final = 256
"""Small parts of a message, one after the other, that are kept as they came."""


class Compressed(bytes):
    """A message that is still compressed: it is unpacked when it is read, so that unread ones cost what they weigh."""

    __slots__ = ()


class Stream:
    """What both sides keep of a stream; its owner overrides `wake`.

    Attributes:
        id: the stream's number; 0 until it has one.
        phase: what the peer may send next.
        headers: the block that began the response or the request.
        trailers: the block that ended it; the same one when there was no other.
        messages: complete and unread; a list when there is to be one.
        failure: why the stream ended before its time; None while it has not.
        abrupt: whether that ends it whatever has arrived (its deadline passed); otherwise what has arrived is still
            delivered and only a wait for more fails (the peer went away after it had answered).
        fault: what is wrong with the messages that come after those in `messages`.
        closed: whether this side has reset the stream or the connection has ended: nothing more is sent on it.
        sent_end: whether this side has sent END_STREAM.
        reading: whether somebody waits for messages, so that parts of one may be acknowledged.
        room: bytes that the peer may still send on this stream.
        send_window: bytes that the peer takes on this stream.
    """

    # Defaults are the class's: a call begins with few of its own, and most end without having needed more.
    id = 0
    phase = HEAD
    headers: HeaderBlock | None = None
    trailers: HeaderBlock | None = None
    failure: MakeError | None = None
    abrupt = False
    fault: MakeError | None = None
    closed = False
    sent_end = False
    reading = False
    _highest_window = 0  # what `send_window` has been, beyond the initial one
    _window = 0  # bytes that may be under way and unread; 0 until the first are read
    _unreported = 0  # bytes that were released, of which the peer has not been told
    _early = 0  # bytes that were released before their message was read
    _parts: list[bytes | memoryview] | None = None  # of a message that has not arrived in whole
    _parts_size = 0
    _crumbs = 0  # small parts at the end of them
    _wanted = PREFIX  # bytes of it that have to be there before more can be said

    def __init__(self, connection: Connection, *, many: bool) -> None:
        self.connection = connection
        self.messages: deque[bytes] | list[bytes] = deque() if many else []  # a deque takes half a kilobyte
        self.send_window = connection.initial_send_window
        self.room = connection.stream_room

    def take_whole(self, headers: HeaderBlock, message: bytes, trailers: HeaderBlock) -> bool:  # noqa: ARG002 - for others
        """Take all that a unary call consists of, if it is of use like this; the stream is not woken for it."""
        return False

    def wake(self) -> None:
        """Hear that something has arrived or ended."""

    def end_with(self, make_error: MakeError, *, abrupt: bool = False) -> None:
        """End the stream's waits; the first reason stays, unless an abrupt one follows."""
        if self.failure is None or (abrupt and not self.abrupt):
            self.failure, self.abrupt = make_error, abrupt
        self.wake()

    def take_data(self, data: bytes | memoryview) -> None:
        """Take the payload of a DATA frame that is not exactly one message, or a part of it."""
        if self.fault is not None:
            self.release(len(data))  # nobody will read it
            return
        if self._parts is None:
            self._parts, self._parts_size, self._wanted = [], 0, PREFIX
            if len(data) >= PREFIX:
                size = int.from_bytes(data[1:PREFIX], "big")
                if PREFIX + size > len(data) and size <= self.connection.settings.message_size:
                    self._wanted = PREFIX + size  # known without a copy
        self._parts.append(data)
        self._parts_size += len(data)
        if len(data) < _SMALL_PART:
            self._join_crumbs()
        if self._parts_size == self._wanted > PREFIX:
            self._complete(self._parts)
        elif self._parts_size >= self._wanted:
            self._assemble(b"".join(self._parts))
        if self.reading:
            self.read_on()

    def _join_crumbs(self) -> None:
        """Join small parts: a message that comes byte by byte would take forty times its size."""
        assert self._parts is not None
        self._crumbs += 1
        if self._crumbs >= _MOST_CRUMBS:
            at = max(0, len(self._parts) - _MOST_CRUMBS)
            self._parts[at:], self._crumbs = [b"".join(self._parts[at:])], 0

    def _complete(self, parts: list[bytes | memoryview]) -> None:
        """Join the parts of one message whose size is known; a large one is copied once."""
        compressed = parts[0][0]
        parts[0] = parts[0][PREFIX:]
        message = b"".join(parts)
        self.messages.append(Compressed(message) if compressed else message)
        self._parts, self._wanted = None, PREFIX

    def _assemble(self, data: bytes) -> None:
        """Cut whole messages off `data`; keep the rest, and how much of it makes the next one whole."""
        at, limit = 0, self.connection.settings.message_size
        self._parts, self._wanted = None, PREFIX
        while len(data) - at >= PREFIX:
            size = int.from_bytes(data[at + 1 : at + PREFIX], "big")
            if size > limit:
                self.fault = partial(too_large, size, limit)
                self.release(len(data) - at)
                return
            self._wanted = PREFIX + size
            end = at + self._wanted
            if end > len(data):
                break
            message = data[at + PREFIX : end]
            self.messages.append(Compressed(message) if data[at] else message)
            at, self._wanted = end, PREFIX
        if at < len(data):
            self._parts, self._parts_size = [data[at:] if at else data], len(data) - at

    @property
    def in_message(self) -> bool:
        """Whether part of a message has arrived."""
        return self._parts is not None

    def read_on(self) -> None:
        """Let the rest come of a message that is being waited for: it may be longer than the window."""
        self.reading = True
        if self._parts is not None and not self.messages:
            if not self._window:
                self._settle()
            if self._wanted > self._window:
                self._widen(self._wanted)
                self._report(0)
            begun = self._parts_size - self._early
            if begun >= self._window >> 2:
                self._report(begun)
                self._early += begun

    def release(self, size: int) -> None:
        """Give the peer back the `size` bytes of a message that was read (section 6.9)."""
        if not self._window:
            self._settle()
        if _MESSAGES * size > self._window:
            self._widen(size)
        if self._early:
            already = min(self._early, size)
            self._early -= already
            size -= already
        self._report(size)

    def _report(self, size: int) -> None:
        self._unreported += size
        if self._unreported >= self._window >> 2 and self.phase != ENDED:
            self.connection.open_window(self, self._unreported)
            self._unreported = 0

    def _settle(self) -> None:
        """Take back of the first window, by not giving back what is read first, what goes beyond the settled one."""
        settings = self.connection.settings
        self._window = min(settings.settled_window, settings.stream_window)
        self._unreported = self._window - settings.stream_window

    def _widen(self, size: int) -> None:
        """Let several messages of a size be under way."""
        wider = min(_MESSAGES * size, self.connection.settings.largest_window)
        if wider > self._window:
            self._unreported += wider - self._window
            self._window = wider

    def open_send_window(self, size: int) -> bool:
        """Let `size` more bytes be sent; return whether the window is now wider than it ever was."""
        self.send_window += size
        if self.send_window <= max(self._highest_window, self.connection.initial_send_window):
            return False
        self._highest_window = self.send_window
        return True


def too_large(size: int, limit: int) -> MessageTooLargeError:
    """Return the error for a message over the limit."""
    return MessageTooLargeError(
        f"a message of {size} bytes is over the limit of {limit}",
        size=size,
        limit=limit,
        hint="raise limits.message_size or send it in parts",
    )
