"""The frames of yamux: a header of twelve bytes, big-endian, and after it the payload of a data frame.

    version 0 | type | flags (2) | stream id (4) | length (4)

The length is a data frame's payload in bytes, a window update's delta, a ping's opaque value, a go-away's code.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from supervisor.errors import ProtocolViolationError

__all__ = ["HEADER_SIZE", "Flags", "Frame", "GoAwayCode", "Kind", "decode_header", "encode_header"]

_HEADER: Final = struct.Struct(">BBHII")

HEADER_SIZE: Final = _HEADER.size

_VERSION: Final = 0


class Kind(enum.IntEnum):
    """What a frame is about."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flags(enum.IntFlag):
    """What a frame says besides: the stream's opening, its acceptance, the end of one direction, the end of both."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAwayCode(enum.IntEnum):
    """Why a session takes no more streams."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


_KNOWN_FLAGS: Final = int(Flags.SYN | Flags.ACK | Flags.FIN | Flags.RST)


@dataclass(frozen=True, slots=True)
class Frame:
    """A header."""

    kind: Kind
    flags: Flags
    stream_id: int
    length: int


def encode_header(kind: Kind, flags: int, stream_id: int, length: int) -> bytes:
    """Return the twelve bytes."""
    return _HEADER.pack(_VERSION, kind, flags, stream_id, length)


def decode_header(data: bytes | bytearray) -> Frame:
    """Read the twelve bytes.

    Raises:
        ProtocolViolationError: the version, the type or a flag is none of yamux's. A peer that speaks HTTP/2 without
            multiplexing ends up here, whichever side it takes.
    """
    version, kind, flags, stream_id, length = _HEADER.unpack(data)
    if version != _VERSION:
        raise ProtocolViolationError(f"yamux version {version} is not {_VERSION}", hint="does the peer multiplex?")
    if kind > Kind.GO_AWAY:
        raise ProtocolViolationError(f"yamux has no frames of type {kind}", hint="does the peer multiplex?")
    if flags & ~_KNOWN_FLAGS:
        raise ProtocolViolationError(f"yamux has no flags {flags:#06x}", hint="does the peer multiplex?")
    return Frame(Kind(kind), Flags(flags), stream_id, length)
