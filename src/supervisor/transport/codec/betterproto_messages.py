"""betterproto messages to bytes and back, with the package's own exceptions translated at its border."""

from __future__ import annotations

import struct
from typing import TypeVar

import betterproto

from supervisor.errors import DecodeError, EncodeError
from supervisor.transport.codec.compiled import functions_of
from supervisor.transport.codec.plan import UnsupportedFieldError
from supervisor.transport.codec.wire import TOO_DEEP, MalformedError

__all__ = ["MAX_DEPTH", "MAX_MESSAGES", "decode", "encode"]

MAX_DEPTH = 100
"""How deep messages may nest: the limit of every official protobuf parser."""

MAX_MESSAGES = 1_000_000
"""How many sub-messages one message may hold. An empty one takes 2 bytes on the wire and about 350 in memory."""

M = TypeVar("M", bound=betterproto.Message)


def encode(message: betterproto.Message, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Return the message's bytes: fields in the order of their numbers, then the unknown fields.

    Raises `EncodeError` when a value does not fit its field, or the message nests deeper than `max_depth`.
    """
    cls = type(message)
    try:
        encoded: bytes = functions_of(cls).encode(message, max_depth)
    except EncodeError:
        raise
    except RecursionError:
        raise EncodeError(f"{cls.__name__}: {TOO_DEEP}", message_type=cls.__name__) from None
    except UnsupportedFieldError as error:
        raise EncodeError(f"{cls.__name__}: {error}", message_type=cls.__name__) from error
    return encoded


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
    cause: Exception | None = None
    try:
        decoded: M = functions_of(cls).decode(data, 0, len(data), max_depth, take)
    except (IndexError, struct.error):
        reason = "the data ends inside a field"
    except UnicodeDecodeError as error:
        reason, cause = f"a string is not valid UTF-8 ({error.reason})", error
    except (MalformedError, UnsupportedFieldError) as error:
        reason, cause = str(error), error
    except StopIteration:
        reason = f"it holds more than {max_messages} sub-messages"
    except RecursionError:
        reason = TOO_DEEP
    else:
        return decoded
    raise DecodeError(f"{cls.__name__}: {reason}") from cause
