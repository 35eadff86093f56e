"""Log records as the bytes of `supervisor.logs.v1`, written by hand.

Log records are the one message that a plugin sends a hundred thousand of, and building betterproto's objects for them
costs more than logging does. Tests hold this module against the generated classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from supervisor.services.log_values import TEXT_LIMIT, cut_text, freeze

if TYPE_CHECKING:
    from supervisor.records import ExceptionRecord

__all__ = ["RECORD_LIMIT", "RawBatch", "encode_batch", "encode_record"]

RECORD_LIMIT: Final = 256 * 1024
"""Most bytes of one record's fields; those that do not fit are left out and the record is marked truncated."""

_EVENT_LIMIT: Final = 64 * 1024
_NAME_LIMIT: Final = 256


class RawBatch:
    """A batch on its way: grpclib's codecs take anything with these two methods."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self) -> bytes:  # noqa: N802  # google.protobuf's name, by which codecs know a message
        """Return the bytes."""
        return self.data

    @classmethod
    def FromString(cls, data: bytes) -> RawBatch:  # noqa: N802
        """Take the bytes; they are parsed where they are wanted."""
        return cls(data)


_SMALL: Final = tuple(bytes((n,)) for n in range(0x80))
_pack_double = struct.Struct("<d").pack


def _varint(number: int) -> bytes:
    if number < 0x80:  # noqa: PLR2004
        return _SMALL[number]
    if number < 1 << 14:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _utf8(text: str) -> bytes:
    # Python text may hold lone surrogates, protobuf text may not.
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _text(tag: bytes, text: str) -> bytes:
    data = _utf8(text)
    return tag + _varint(len(data)) + data


def _message(tag: bytes, data: bytes) -> bytes:
    return tag + _varint(len(data)) + data


def _value(value: object) -> bytes:
    """Encode a Value; everything that is not a short scalar is frozen first."""
    kind = type(value)
    if kind is str:
        return _text(b"\x2a", value if len(value) <= TEXT_LIMIT else cut_text(value))  # type: ignore[arg-type]  # kind says str
    if kind is int and -(1 << 63) <= value < 1 << 63:  # type: ignore[operator]  # kind says int
        return b"\x18" + _varint(value << 1 if value >= 0 else ~(value << 1))  # type: ignore[operator]
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is float:
        return b"\x21" + _pack_double(value)
    if value is None:
        return b"\x08\x01"
    return _frozen_value(freeze(value))


def _frozen_value(value: object) -> bytes:
    if type(value) is list:
        items = b"".join(_message(b"\x0a", _frozen_value(item)) for item in value)
        return _message(b"\x3a", items)
    if type(value) is dict:
        items = b"".join(_field(b"\x0a", key, _frozen_value(item)) for key, item in value.items())
        return _message(b"\x42", items)
    if type(value) is bytes:
        return _message(b"\x32", value)
    return _value(value)


def _field(tag: bytes, key: str, value: bytes) -> bytes:
    return _message(tag, _text(b"\x0a", key) + _message(b"\x12", value))


def _exception(exception: ExceptionRecord) -> bytes:
    frames = b"".join(
        _message(
            b"\x1a",
            _text(b"\x0a", frame.filename)
            + b"\x10"
            + _varint(max(0, frame.lineno))
            + _text(b"\x1a", frame.name)
            + _text(b"\x22", frame.line),
        )
        for frame in exception.frames
    )
    return (
        _text(b"\x0a", exception.type)
        + _text(b"\x12", cut_text(exception.message))
        + frames
        + _text(b"\x22", cut_text(exception.text, _EVENT_LIMIT))
    )


def encode_record(
    level: int,
    event: str,
    *,
    logger: str = "",
    logged_at: float | None = None,
    fields: Mapping[str, object] = MappingProxyType({}),
    exception: ExceptionRecord | None = None,
    truncated: bool = False,
) -> bytes:
    """Encode one record as an element of a batch, ready to be joined with others. Never raises for what is logged.

    Args:
        level: stdlib logging's number.
        event: the message.
        logger: the logger's name.
        logged_at: seconds since the epoch.
        fields: key/values of any type; see `freeze` for what becomes of them.
        exception: the exception that goes with it.
        truncated: whether something was left out already.
    """
    parts = [b"\x08", _varint(max(0, level)), _text(b"\x12", cut_text(event, _EVENT_LIMIT))]
    if logger:
        parts.append(_text(b"\x1a", cut_text(logger, 256)))
    if logged_at:
        # int64: a negative number takes ten bytes, two's complement.
        parts.append(b"\x20" + _varint(int(logged_at * 1e6) & 0xFFFF_FFFF_FFFF_FFFF))
    room = RECORD_LIMIT
    for key, value in fields.items():
        field = _field(b"\x2a", key if type(key) is str else str(key), _value(value))
        room -= len(field)
        if room < 0:
            truncated = True
            break
        parts.append(field)
    if exception is not None:
        parts.append(_message(b"\x32", _exception(exception)))
    if truncated:
        parts.append(b"\x38\x01")
    return _message(b"\x0a", b"".join(parts))


def encode_batch(records: Iterable[bytes], dropped: int) -> RawBatch:
    """Join records that `encode_record` made into a batch."""
    data = b"".join(records)
    return RawBatch(data + b"\x10" + _varint(dropped) if dropped else data)
