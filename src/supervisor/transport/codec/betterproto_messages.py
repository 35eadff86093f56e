"""betterproto messages to bytes and back, with the package's own exceptions translated at its border."""

from __future__ import annotations

import struct
from typing import Final, TypeVar

import betterproto

from supervisor.errors import DecodeError, EncodeError
from supervisor.transport.codec.compiled import functions_of
from supervisor.transport.codec.wire import TOO_DEEP, MalformedError, UnsupportedFieldError

__all__ = [
    "MAX_DEPTH",
    "MAX_MESSAGES",
    "READ_FAULTS",
    "WRITE_FAULTS",
    "decode",
    "encode",
    "explain_read",
    "explain_write",
]

MAX_DEPTH = 100
"""How deep messages may nest: the limit of every official protobuf parser."""

MAX_MESSAGES = 1_000_000
"""How many sub-messages one message may hold. An empty one takes 2 bytes on the wire and about 350 in memory."""

WRITE_FAULTS: Final = (RecursionError, UnsupportedFieldError)
"""What an encoder raises beside `EncodeError`."""

READ_FAULTS: Final = (
    IndexError, struct.error, UnicodeDecodeError, MalformedError, UnsupportedFieldError, StopIteration, RecursionError,
)  # fmt: skip
"""What a decoder raises."""

M = TypeVar("M", bound=betterproto.Message)


def encode(message: betterproto.Message, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Return the message's bytes: fields in the order of their numbers, then the unknown fields.

    Raises `EncodeError` when a value does not fit its field, or the message nests deeper than `max_depth`.
    """
    try:
        encoded: bytes = functions_of(type(message)).encode(message, max_depth)
    except WRITE_FAULTS as error:
        raise explain_write(type(message), error) from error
    return encoded


def explain_write(cls: type, error: Exception) -> EncodeError:
    """Return what is raised in the place of one of `WRITE_FAULTS`."""
    reason = TOO_DEEP if isinstance(error, RecursionError) else error
    return EncodeError(f"{cls.__name__}: {reason}", message_type=cls.__name__)


def decode(
    cls: type[M], data: bytes | bytearray | memoryview, *, max_depth: int = MAX_DEPTH, max_messages: int = MAX_MESSAGES
) -> M:
    """Return the message that `data` holds, like one that betterproto has parsed.

    Takes time linear in the size of `data`. Raises `DecodeError`, and nothing else, whatever `data` holds: on bytes that
    google.protobuf rejects, on a nesting deeper than `max_depth`, on more than `max_messages` sub-messages, and on a
    timestamp outside the years 1 to 9999.
    """
    if type(data) is not bytes:
        data = bytes(memoryview(data))
    take = iter(range(max_messages)).__next__
    try:
        decoded: M = functions_of(cls).decode(data, 0, len(data), max_depth, take)
    except READ_FAULTS as error:
        raise explain_read(cls, error, max_messages) from error
    return decoded


def explain_read(cls: type, error: Exception, max_messages: int) -> DecodeError:
    """Return what is raised in the place of one of `READ_FAULTS`."""
    match error:
        case IndexError() | struct.error():
            reason = "the data ends inside a field"
        case UnicodeDecodeError():
            reason = f"a string is not valid UTF-8 ({error.reason})"
        case StopIteration():
            reason = f"it holds more than {max_messages} sub-messages"
        case RecursionError():
            reason = TOO_DEEP
        case _:
            reason = str(error)
    return DecodeError(f"{cls.__name__}: {reason}")
