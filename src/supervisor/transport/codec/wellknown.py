"""Timestamps and durations, which betterproto shows as `datetime` and `timedelta`.

Python counts microseconds and protobuf nanoseconds: what is finer is cut off. A point in time outside the years 1 to 9999
has no `datetime`, so it cannot be decoded.
"""

# ruff: noqa: PLR2004 - the numbers are bits, bytes and field keys of the wire format; names would hide them

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from supervisor.transport.codec.wire import (
    OVERRUN,
    TOO_DEEP,
    MalformedError,
    encode_varint,
    prefixes,
    read_int32,
    read_int64,
    read_key,
    skip_field,
)

__all__ = ["DURATION", "TIMESTAMP", "ValueCodec"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS, _NANOS = b"\x08", b"\x10"  # the keys of fields 1 and 2, both varints
_SHORT_SECONDS: Final = prefixes(_SECONDS)
_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


class ValueCodec(NamedTuple):
    """How a value that is a message on the wire is read and written.

    Attributes:
        decode: `(data, pos, end, depth, take) -> value`, the contract of every generated decoder.
        encode: `(value, depth) -> payload`, the contract of every generated encoder.
    """

    decode: Callable[[bytes, int, int, int, Callable[[], object]], Any]
    encode: Callable[[Any, int], bytes]


def _read_pair(data: bytes, pos: int, end: int, depth: int) -> tuple[int, int]:
    """Read the seconds and nanos that Timestamp and Duration both consist of."""
    if depth < 0:
        raise MalformedError(TOO_DEEP)
    seconds = nanos = 0
    while pos < end:
        tag, pos = read_key(data, pos)
        if tag == 8:
            seconds, pos = read_int64(data, pos)
        elif tag == 16:
            nanos, pos = read_int32(data, pos)
        else:
            pos = skip_field(data, pos, end, tag, depth)
    if pos != end:
        raise MalformedError(OVERRUN)
    return seconds, nanos


def _write_pair(seconds: int, nanos: int) -> bytes:
    if 0 <= seconds < 128:
        head = _SHORT_SECONDS[seconds] if seconds else b""
    else:
        head = _SECONDS + encode_varint(seconds & _MASK)
    return head + _NANOS + encode_varint(nanos & _MASK) if nanos else head


def _decode_timestamp(data: bytes, pos: int, end: int, depth: int, _take: Callable[[], object]) -> datetime:
    seconds, nanos = _read_pair(data, pos, end, depth)
    try:
        return _EPOCH + timedelta(0, seconds, nanos // 1000)
    except OverflowError:
        raise MalformedError("a timestamp is outside the years 1 to 9999") from None


def _encode_timestamp(value: datetime, _depth: int) -> bytes:
    """Encode a point in time; a naive one raises `TypeError`, because nobody knows which point it is."""
    since = value - _EPOCH
    return _write_pair(since.days * 86400 + since.seconds, since.microseconds * 1000)


def _decode_duration(data: bytes, pos: int, end: int, depth: int, _take: Callable[[], object]) -> timedelta:
    seconds, nanos = _read_pair(data, pos, end, depth)
    micros = nanos // 1000 if nanos >= 0 else -(-nanos // 1000)
    try:
        return timedelta(0, seconds, micros)
    except OverflowError:
        raise MalformedError("a duration is longer than Python can express") from None


def _encode_duration(value: timedelta, _depth: int) -> bytes:
    """Encode a span of time; both parts carry its sign (google/protobuf/duration.proto)."""
    if not isinstance(value, timedelta):
        raise TypeError("not a timedelta")
    if value.days < 0:
        value = -value
        return _write_pair(-(value.days * 86400 + value.seconds), -value.microseconds * 1000)
    return _write_pair(value.days * 86400 + value.seconds, value.microseconds * 1000)


TIMESTAMP: Final = ValueCodec(decode=_decode_timestamp, encode=_encode_timestamp)
DURATION: Final = ValueCodec(decode=_decode_duration, encode=_encode_duration)
