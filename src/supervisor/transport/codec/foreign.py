"""Messages of other libraries: google.protobuf, betterproto2, and whatever else can turn itself into bytes and back.

Nothing is imported for them. A class qualifies by its methods: `SerializeToString` and `FromString`, which is the interface
that grpclib itself relies on, or `__bytes__` and a class method `parse`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.errors import DecodeError, EncodeError

__all__ = ["decode_foreign", "encode_foreign"]


def encode_foreign(message: Any) -> bytes:
    """Return what the message makes of itself; raises `EncodeError` whatever went wrong in there."""
    cls = type(message)
    write = getattr(message, "SerializeToString", None) or getattr(message, "__bytes__", None)
    if write is None:
        raise EncodeError(
            f"{cls.__name__} is not a message: it has neither SerializeToString nor __bytes__",
            message_type=cls.__name__,
            value_type=cls.__name__,
        )
    try:
        return bytes(write())
    except Exception as error:
        raise EncodeError(
            f"{cls.__name__}: {type(error).__name__}: {error}", message_type=cls.__name__, value_type=cls.__name__
        ) from error


def decode_foreign(cls: Any, data: bytes) -> Any:
    """Return what the class makes of `data`; raises `DecodeError` whatever went wrong in there."""
    read: Callable[[bytes], Any] | None = getattr(cls, "FromString", None) or getattr(cls, "parse", None)
    if read is None:
        raise DecodeError(f"{cls.__name__} is not a message type: it has neither FromString nor parse")
    try:
        return read(data)
    except Exception as error:
        raise DecodeError(f"{cls.__name__}: {type(error).__name__}: {error}") from error
