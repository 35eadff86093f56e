"""The protobuf wire format: varints, field keys, and how to step over a field. Pure functions over `bytes`.

The limits are those of upb, the parser inside google.protobuf: a varint has at most 10 bytes and its value 64 bits,
a field key 5 bytes and 32 bits, a length 5 bytes and 31 bits. One thing is stricter: the field number 0 is refused
everywhere, while upb lets it pass in a message without fields and in an unknown group.

Readers take a position and return the value with the position behind it. They do not know where the enclosing message
ends: a read past the buffer raises `IndexError` or `struct.error`, and a read past the message leaves the position behind
its end, which the caller compares once, after its loop. That keeps the bounds check out of the path of every byte.
"""

# ruff: noqa: PLR2004 - the numbers are bits, bytes and field keys of the wire format; names would hide them

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

__all__ = [
    "NUMBER_ZERO",
    "OVERRUN",
    "TOO_DEEP",
    "MalformedError",
    "UnsupportedFieldError",
    "check_fields",
    "encode_bool",
    "encode_int32",
    "encode_int64",
    "encode_sint32",
    "encode_sint64",
    "encode_uint32",
    "encode_uint64",
    "encode_varint",
    "extend_spans",
    "gather",
    "key",
    "pack_fixed",
    "pack_varints",
    "prefixes",
    "read_int32",
    "read_int64",
    "read_key",
    "read_length",
    "read_uint32",
    "read_varint",
    "skip_field",
    "unpack_fixed",
]

VARINT, FIXED64, DELIMITED, START_GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5

NUMBER_ZERO: Final = "a field has the number 0"
OVERRUN: Final = "a field runs past the end of its message"
TOO_DEEP: Final = "messages are nested too deeply"

_LONG_KEY: Final = "a field key is longer than 32 bits"
_LONG_LENGTH: Final = "a length is longer than 31 bits"
_LONG_VARINT: Final = "a varint is longer than 10 bytes"

_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(128))


class MalformedError(ValueError):
    """Bytes that break the wire format. It stays inside this package, whose border turns it into a `DecodeError`."""


class UnsupportedFieldError(TypeError):
    """betterproto's metadata does not say what is needed to encode or decode a field."""


# --- reading ---------------------------------------------------------------------------------------------------------


def read_varint(data: bytes, pos: int) -> tuple[int, int]:
    """Read an unsigned number; bits beyond the 64th are ignored, as upb does."""
    first, second = data[pos], 0
    if first < 128:
        return first, pos + 1
    second = data[pos + 1]
    if second < 128:
        return first & 127 | second << 7, pos + 2
    value, pos = first & 127 | (second & 127) << 7, pos + 2
    for shift in range(14, 70, 7):
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, pos
    raise MalformedError(_LONG_VARINT)


def read_key(data: bytes, pos: int) -> tuple[int, int]:
    """Read a field key (`number << 3 | wire type`)."""
    value, stop = read_varint(data, pos)
    if stop - pos > 5 or value > 0xFFFF_FFFF:
        raise MalformedError(_LONG_KEY)
    return value, stop


def read_length(data: bytes, pos: int) -> tuple[int, int]:
    """Read the length of a delimited field."""
    value, stop = read_varint(data, pos)
    if stop - pos > 5 or value > 0x7FFF_FFFF:
        raise MalformedError(_LONG_LENGTH)
    return value, stop


def read_int32(data: bytes, pos: int) -> tuple[int, int]:
    """Read a signed number of 32 bits; higher bits are ignored, as every protobuf parser does."""
    value, pos = read_varint(data, pos)
    value &= 0xFFFF_FFFF
    return (value - 0x1_0000_0000 if value > 0x7FFF_FFFF else value), pos


def read_int64(data: bytes, pos: int) -> tuple[int, int]:
    """Read a signed number of 64 bits."""
    value, pos = read_varint(data, pos)
    return (value - 0x1_0000_0000_0000_0000 if value > 0x7FFF_FFFF_FFFF_FFFF else value), pos


def read_uint32(data: bytes, pos: int) -> tuple[int, int]:
    """Read an unsigned number of 32 bits; higher bits are ignored."""
    value, pos = read_varint(data, pos)
    return value & 0xFFFF_FFFF, pos


def unpack_fixed(letter: str, data: bytes, pos: int, stop: int) -> tuple[float, ...]:
    """Read a packed run of fixed-size numbers; `letter` is their `struct` format."""
    count, rest = divmod(stop - pos, struct.calcsize("<" + letter))
    if rest:
        raise MalformedError(OVERRUN)
    return struct.unpack_from(f"<{count}{letter}", data, pos)


# --- stepping over ---------------------------------------------------------------------------------------------------


def skip_field(data: bytes, pos: int, end: int, tag: int, depth: int) -> int:
    """Return the position behind the field whose key `tag` was just read; `depth` bounds nested groups."""
    if tag < 8:
        raise MalformedError(NUMBER_ZERO)
    wire = tag & 7
    if wire == START_GROUP:
        return _skip_group(data, pos, end, tag >> 3, depth)
    return _skip_value(data, pos, end, wire)


def _skip_value(data: bytes, pos: int, end: int, wire: int) -> int:
    if wire == VARINT:
        if data[pos] < 128:
            pos += 1
        else:
            _, pos = read_varint(data, pos)
    elif wire == DELIMITED:
        size, pos = read_length(data, pos)
        pos += size
    elif wire == FIXED64:
        pos += 8
    elif wire == FIXED32:
        pos += 4
    elif wire == END_GROUP:
        raise MalformedError("a group ends that did not start")
    else:
        raise MalformedError(f"wire type {wire} does not exist")
    if pos > end:
        raise MalformedError(OVERRUN)
    return pos


def _skip_group(data: bytes, pos: int, end: int, number: int, depth: int) -> int:
    """Step over a group and the groups inside it, with a stack of our own: the input must not choose our recursion."""
    open_groups = [number]
    while open_groups:
        if len(open_groups) > depth:
            raise MalformedError(TOO_DEEP)
        if pos >= end:
            raise MalformedError("a group does not end")
        tag, pos = read_key(data, pos)
        if tag < 8:
            raise MalformedError(NUMBER_ZERO)
        wire = tag & 7
        if wire == START_GROUP:
            open_groups.append(tag >> 3)
        elif wire == END_GROUP:
            if open_groups.pop() != tag >> 3:
                raise MalformedError("a group ends that did not start")
        else:
            pos = _skip_value(data, pos, end, wire)
    if pos > end:
        raise MalformedError(OVERRUN)
    return pos


def check_fields(data: bytes, pos: int, end: int, depth: int) -> None:
    """Raise unless `data[pos:end]` is a whole number of fields. Looks into groups, not into delimited fields."""
    while pos < end:
        tag, pos = read_key(data, pos)
        pos = skip_field(data, pos, end, tag, depth)


def extend_spans(spans: list[int], start: int, stop: int) -> None:
    """Add a span to a flat list `[start, stop, start, stop, ...]`, joined to the last one if it touches it."""
    if spans[-1] == start:
        spans[-1] = stop
    else:
        spans += (start, stop)


def gather(data: bytes, spans: Sequence[int]) -> bytes:
    """Return the bytes of a flat list of spans, in order."""
    if len(spans) == 2:
        return data[spans[0] : spans[1]]
    return b"".join([data[start:stop] for start, stop in zip(spans[::2], spans[1::2], strict=True)])


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_varint(value: int) -> bytes:
    """Encode an unsigned number of any size; the shortest forms are unrolled because lengths and times live there."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 127 | 128, value >> 7))
    if value < 0x20_0000:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    out = []
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def key(number: int, wire: int) -> bytes:
    """Encode a field key."""
    return encode_varint(number << 3 | wire)


@cache
def prefixes(tag: bytes) -> tuple[bytes, ...]:
    """Return `tag` followed by each one-byte varint: what stands before a short text, or all of a small number.

    Cached by key, not by message: every class's field 1 shares one table.
    """
    return tuple(tag + byte for byte in _ONE_BYTE)


def _out_of_range(value: int, kind: str) -> ValueError:
    return ValueError(f"{value} is out of range for {kind}")


def encode_int32(value: int) -> bytes:
    """Encode an int32 or an enum: negative numbers take the ten bytes of an int64, so that a field can be widened."""
    if not -0x8000_0000 <= value <= 0x7FFF_FFFF:
        raise _out_of_range(value, "int32")
    return encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def encode_int64(value: int) -> bytes:
    """Encode an int64."""
    if not -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
        raise _out_of_range(value, "int64")
    return encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def encode_uint32(value: int) -> bytes:
    """Encode a uint32."""
    if not 0 <= value <= 0xFFFF_FFFF:
        raise _out_of_range(value, "uint32")
    return encode_varint(value | 0)


def encode_uint64(value: int) -> bytes:
    """Encode a uint64."""
    if not 0 <= value <= 0xFFFF_FFFF_FFFF_FFFF:
        raise _out_of_range(value, "uint64")
    return encode_varint(value | 0)


def encode_sint32(value: int) -> bytes:
    """Encode a sint32 (zigzag: small negative numbers stay short)."""
    if not -0x8000_0000 <= value <= 0x7FFF_FFFF:
        raise _out_of_range(value, "sint32")
    return encode_varint(value << 1 if value >= 0 else ~(value << 1))


def encode_sint64(value: int) -> bytes:
    """Encode a sint64 (zigzag)."""
    if not -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
        raise _out_of_range(value, "sint64")
    return encode_varint(value << 1 if value >= 0 else ~(value << 1))


def encode_bool(value: object) -> bytes:
    """Encode a bool; a number that is 0 or 1 passes, anything else raises `TypeError`."""
    if value is True or value is False or (isinstance(value, int) and 0 <= value <= 1):
        return b"\1" if value else b"\0"
    raise TypeError("neither True nor False")


def pack_varints(values: Sequence[int], encode: Callable[[int], bytes]) -> bytes:
    """Encode a packed run. `bytes()` does it alone when every number fits one byte, which small enums and counts do."""
    if encode is encode_bool or encode is encode_sint32 or encode is encode_sint64:
        return b"".join([encode(value) for value in values])
    try:
        packed = bytes(values)
    except ValueError:  # a number below 0 or above 255
        packed = b"\xff"
    return packed if packed.isascii() else b"".join([encode(value) for value in values])


def pack_fixed(letter: str, values: Sequence[float]) -> bytes:
    """Encode a packed run of fixed-size numbers; `letter` is their `struct` format."""
    return struct.pack(f"<{len(values)}{letter}", *values)
