"""Frames as bytes (RFC 9113, sections 4.1 and 6): what is written, and the numbers that are read."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

__all__ = [
    "ACK", "CONTINUATION", "DATA", "END_HEADERS", "END_STREAM", "FRAME_HEAD", "GOAWAY", "HEADERS", "LARGEST_WINDOW",
    "MESSAGE_HEAD", "MESSAGE_PREFIX", "PADDED", "PING", "PREFACE", "PRIORITY", "PRIORITY_FIELDS", "PUSH_PROMISE",
    "RST_STREAM", "SETTINGS", "SMALLEST_FRAME_SIZE", "WINDOW_UPDATE", "Setting", "frame", "goaway", "header_frames",
    "message_head", "reply_end", "reply_head", "request_head", "rst_stream", "settings", "window_update",
]  # fmt: skip

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FIELDS: Final = 0x20

SMALLEST_FRAME_SIZE: Final = 16_384
LARGEST_WINDOW: Final = 2**31 - 1

FRAME_HEAD: Final = struct.Struct(">IBI")
"""The length (24 bits) and the type (8 bits) as one number, flags, stream."""

MESSAGE_HEAD: Final = struct.Struct(">IBIBI")
"""A DATA frame's head and the head of the one gRPC message in it: compressed or not, length."""

MESSAGE_PREFIX: Final = struct.Struct(">BI")
"""The head of a gRPC message alone."""

_UINT32: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")


class Setting:
    """Numbers of settings (section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return FRAME_HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def header_frames(stream_id: int, block: bytes, *, end: bool, frame_size: int) -> bytes:
    """Return a header block as HEADERS, and CONTINUATION where it is longer than a frame may be (section 6.10)."""
    ends = END_STREAM if end else 0
    if len(block) <= frame_size:
        return frame(HEADERS, END_HEADERS | ends, stream_id, block)
    parts = [block[at : at + frame_size] for at in range(0, len(block), frame_size)]
    frames = [frame(HEADERS, ends, stream_id, parts[0])]
    frames += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream_id, parts[-1]))
    return b"".join(frames)


def message_head(stream_id: int, size: int, *, compressed: int = 0, end: bool = False) -> bytes:
    """Return the heads of a DATA frame and of the message of `size` bytes that fills it."""
    return MESSAGE_HEAD.pack(size + 5 << 8, END_STREAM if end else 0, stream_id, compressed, size)


@lru_cache(256)
def _headed_message(block: int) -> struct.Struct:
    """Return the layout of HEADERS with a block of so many bytes, and the heads of a message behind it."""
    return struct.Struct(f">IBI{block}sIBIBI")


@lru_cache(256)
def _trailers(block: int) -> struct.Struct:
    return struct.Struct(f">IBI{block}s")


def request_head(stream_id: int, block: bytes, size: int) -> bytes:
    """Return what stands before the `size` bytes of a unary request's message: headers, and heads that end the stream.

    The headers must fit into a frame, and the message into another.
    """
    length = len(block)
    return _headed_message(length).pack(
        length << 8 | HEADERS, END_HEADERS, stream_id, block, size + 5 << 8, END_STREAM, stream_id, 0, size
    )


def reply_head(stream_id: int, block: bytes, size: int) -> bytes:
    """Return what stands before the `size` bytes of a unary reply's message."""
    length = len(block)
    return _headed_message(length).pack(
        length << 8 | HEADERS, END_HEADERS, stream_id, block, size + 5 << 8, 0, stream_id, 0, size
    )


def reply_end(stream_id: int, trailers: bytes) -> bytes:
    """Return what stands behind it: the trailers that end the stream."""
    length = len(trailers)
    return _trailers(length).pack(length << 8 | HEADERS, END_HEADERS | END_STREAM, stream_id, trailers)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return the frame that ends a stream both ways (section 6.4)."""
    return frame(RST_STREAM, 0, stream_id, _UINT32.pack(code))


def window_update(stream_id: int, increment: int) -> bytes:
    """Return the frame that opens a window (section 6.9); the connection's is that of stream 0."""
    return frame(WINDOW_UPDATE, 0, stream_id, _UINT32.pack(increment))


def goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """Return the frame that ends a connection, at once or after the streams up to one (section 6.8)."""
    return frame(GOAWAY, 0, 0, _UINT32.pack(last_stream_id) + _UINT32.pack(code) + debug)


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame (section 6.5)."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(number, value) for number, value in values))
