"""The messages that a host and a plugin exchange at every start, written by hand.

They are a number or a text each. To make betterproto's classes of them, and their codecs, would take a plugin longer than
to serve them for an hour. Tests hold this module against the generated classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, NamedTuple, Self

from supervisor.transport.codec.wire import (
    encode_int32,
    encode_uint32,
    encode_varint,
    read_int32,
    read_key,
    read_length,
    read_uint32,
    skip_field,
)

__all__ = [
    "Empty",
    "FollowRequest",
    "HealthCheckRequest",
    "HealthCheckResponse",
    "RawMessage",
    "StdioData",
]

_DEPTH: Final = 100
"""How deep groups of unknown fields may nest: as deep as messages in google.protobuf."""


class _Kind(NamedTuple):
    """How values of one type are read and written; `wire` is the type on the wire."""

    wire: int
    blank: object
    read: Callable[[bytes, int], tuple[Any, int]]
    write: Callable[[Any], bytes]


def _read_bytes(data: bytes, pos: int) -> tuple[bytes, int]:
    size, pos = read_length(data, pos)
    return data[pos : pos + size], pos + size


def _write_bytes(value: bytes) -> bytes:
    return encode_varint(len(value)) + value


def _read_text(data: bytes, pos: int) -> tuple[str, int]:
    text, pos = _read_bytes(data, pos)
    return text.decode(), pos


_UINT32: Final = _Kind(0, 0, read_uint32, encode_uint32)
_ENUM: Final = _Kind(0, 0, read_int32, encode_int32)
_BYTES: Final = _Kind(2, b"", _read_bytes, _write_bytes)
_TEXT: Final = _Kind(2, "", _read_text, lambda text: _write_bytes(text.encode()))


class _Flat:
    """A message without sub-messages; codecs know it by the two methods that google.protobuf's have, too."""

    __slots__ = ()
    _FIELDS: ClassVar[tuple[tuple[str, _Kind], ...]] = ()
    """Name and kind, in the order of their numbers, which count from 1."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # google.protobuf's name
        """Return the bytes."""
        values = [(number, kind, getattr(self, name)) for number, (name, kind) in enumerate(self._FIELDS, 1)]
        return b"".join(
            [bytes((number << 3 | kind.wire,)) + kind.write(value) for number, kind, value in values if value]
        )

    @classmethod
    def FromString(cls, data: bytes) -> Self:  # noqa: N802  # google.protobuf's name
        """Read the bytes; whatever is wrong with them, the codec calls it a `DecodeError`."""
        kinds = {number << 3 | kind.wire: (name, kind) for number, (name, kind) in enumerate(cls._FIELDS, 1)}
        found: dict[str, Any] = {}
        pos, end = 0, len(data)
        while pos < end:
            key, pos = read_key(data, pos)
            if key in kinds:
                name, kind = kinds[key]
                found[name], pos = kind.read(data, pos)
            else:
                pos = skip_field(data, pos, end, key, _DEPTH)
        if pos != end:
            raise ValueError("a field runs past the end of its message")
        return cls(**found)


class Empty(_Flat):
    """`plugin.Empty`, `google.protobuf.Empty` and every other one: nothing."""

    __slots__ = ()


class FollowRequest(_Flat):
    """`supervisor.logs.v1.FollowRequest`: stdlib logging's number from which records are wanted."""

    __slots__ = ("level",)
    _FIELDS = (("level", _UINT32),)

    def __init__(self, level: int = 0) -> None:
        self.level = level


class HealthCheckRequest(_Flat):
    """`grpc.health.v1.HealthCheckRequest`: whose health."""

    __slots__ = ("service",)
    _FIELDS = (("service", _TEXT),)

    def __init__(self, service: str = "") -> None:
        self.service = service


class HealthCheckResponse(_Flat):
    """`grpc.health.v1.HealthCheckResponse`: the number of a status."""

    __slots__ = ("status",)
    _FIELDS = (("status", _ENUM),)

    def __init__(self, status: int = 0) -> None:
        self.status = status


class StdioData(_Flat):
    """`plugin.StdioData`: what was printed, and to which of the two."""

    __slots__ = ("channel", "data")
    _FIELDS = (("channel", _ENUM), ("data", _BYTES))

    def __init__(self, channel: int = 0, data: bytes = b"") -> None:
        self.channel = channel
        self.data = data


class RawMessage(_Flat):
    """Any message, not looked into: for services that decode it themselves, when there is one."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self) -> bytes:  # noqa: N802
        """Return the bytes."""
        return self.data

    @classmethod
    def FromString(cls, data: bytes) -> Self:  # noqa: N802
        """Take the bytes."""
        return cls(data)
