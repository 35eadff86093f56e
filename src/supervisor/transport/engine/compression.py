"""Messages that are gzipped: unpacked within the limit on messages, packed when a call asks for it."""

from __future__ import annotations

import zlib
from typing import Final

from supervisor.errors import ProtocolViolationError
from supervisor.transport.engine.headers import literal
from supervisor.transport.engine.stream import too_large

__all__ = ["ACCEPTED", "ENCODING_LITERAL", "GZIP", "UnknownEncodingError", "pack", "unpack"]

GZIP: Final = b"gzip"
ENCODING_LITERAL: Final = literal(b"grpc-encoding", GZIP)
"""The header that announces compressed messages."""

ACCEPTED: Final = b"identity,gzip"
"""What this side takes, as `grpc-accept-encoding`."""

_GZIP_FORMAT: Final = 31  # zlib's number for it
_LEVEL: Final = 1
_ENDING: Final = 16  # bytes beyond the limit that show that there are more


class UnknownEncodingError(ProtocolViolationError):
    """A message is compressed in a way that was not offered, or that its headers did not announce."""


def unpack(message: bytes, encoding: bytes, limit: int) -> bytes:
    """Return a compressed message's bytes.

    Raises:
        UnknownEncodingError: the headers named no compression, or one that is not known here.
        MessageTooLargeError: it has more than `limit` bytes; no more than that are unpacked.
        ProtocolViolationError: it is not what the headers say.
    """
    if encoding != GZIP:
        raise UnknownEncodingError(f"a message came compressed, and the headers say {encoding.decode('latin-1')!r}")
    unpacker = zlib.decompressobj(_GZIP_FORMAT)
    try:
        unpacked = unpacker.decompress(message, limit + _ENDING)
    except zlib.error as error:
        raise ProtocolViolationError(f"a compressed message cannot be unpacked: {error}") from error
    if len(unpacked) > limit:
        raise too_large(len(unpacked), limit)
    if not unpacker.eof:
        raise ProtocolViolationError("a compressed message ends too early")
    if unpacker.unused_data:  # gzip may be joined to gzip, and no peer does; what one may not do is lose it
        raise ProtocolViolationError("there is more behind the end of a compressed message")
    return unpacked


def pack(message: bytes) -> bytes:
    """Return a message's bytes, compressed."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    return packer.compress(message) + packer.flush()
