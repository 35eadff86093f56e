"""One gRPC message on a stream: a flag, a length of four bytes, the message; with a limit on its size both ways."""

from __future__ import annotations

import struct
from typing import Any

from grpclib.encoding.base import CodecBase

from supervisor.errors import DecodeError, EncodeError, MessageTooLargeError, SupervisorError
from supervisor.transport.stream import WireStream

__all__ = ["CompressedError", "read_message", "write_message"]

_PREFIX = struct.Struct("!BI")


class CompressedError(DecodeError):
    """A message came compressed although this side never offered to take that."""


async def read_message(stream: WireStream, codec: CodecBase, message_type: type[Any], limit: int) -> Any:
    """Return the next message, or None at the end of the stream.

    Raises:
        MessageTooLargeError: its prefix announces more than `limit` bytes; none of them are read.
        CompressedError: it is compressed.
        DecodeError: its bytes are not a message.
        ProtocolViolationError: the stream ended within it.
    """
    prefix = await stream.recv_data(_PREFIX.size)
    if not prefix:
        return None
    compressed, size = _PREFIX.unpack(prefix)
    if compressed:
        raise CompressedError("a message came compressed, which was not offered")
    if size > limit:
        raise _too_large(size, limit)
    data = await stream.recv_data(size)
    if len(data) < size:
        raise DecodeError("the stream ended between a message's length and its bytes")
    try:
        return codec.decode(data, message_type)
    except SupervisorError:
        raise
    except Exception as error:
        raise DecodeError(f"the bytes received are not a {message_type.__name__}: {error}") from error


async def write_message(
    stream: WireStream, codec: CodecBase, message: Any, message_type: type[Any], limit: int, *, end: bool = False
) -> None:
    """Send a message.

    Raises:
        MessageTooLargeError: it has more than `limit` bytes; nothing is sent.
        EncodeError: it cannot be encoded; nothing is sent.
    """
    try:
        data = codec.encode(message, message_type)
    except SupervisorError:
        raise
    except Exception as error:
        raise EncodeError(f"a {message_type.__name__} cannot be encoded: {error}") from error
    await stream.send_data(frame(data, limit), end_stream=end)


def frame(data: bytes, limit: int) -> bytes:
    """Return an encoded message with its prefix."""
    if len(data) > limit:
        raise _too_large(len(data), limit)
    return _PREFIX.pack(0, len(data)) + data


def _too_large(size: int, limit: int) -> MessageTooLargeError:
    return MessageTooLargeError(
        f"a message of {size} bytes is over the limit of {limit}",
        size=size,
        limit=limit,
        hint="raise limits.message_size or send it in parts",
    )
