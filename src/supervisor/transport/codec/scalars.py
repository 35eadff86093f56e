"""The scalar types of protobuf, as data: how each one looks on the wire and which functions read and write it."""

# ruff: noqa: PLR2004 - the numbers are bits, bytes and field keys of the wire format; names would hide them

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from supervisor.transport.codec import wire

__all__ = ["FIXED", "VARINTS", "Fixed", "Varint", "wire_type", "zero"]


class Varint(NamedTuple):
    """A number that is written as a varint.

    Attributes:
        read: reads it when it is longer than one byte.
        encode: writes it, or raises `ValueError` when it is out of range.
        finish: an expression that turns what was read, `{}`, into the value.
        direct: a number from 0 to 127 is its own encoding.
    """

    read: Callable[[bytes, int], tuple[int, int]]
    encode: Callable[[int], bytes]
    finish: str = ""
    direct: bool = True


class Fixed(NamedTuple):
    """A number of a fixed size; `letter` is its `struct` format."""

    letter: str
    layout: struct.Struct


_UNZIGZAG: Final = "{0} >> 1 ^ -({0} & 1)"

VARINTS: Final[Mapping[str, Varint]] = MappingProxyType(
    {
        "int32": Varint(read=wire.read_int32, encode=wire.encode_int32),
        "int64": Varint(read=wire.read_int64, encode=wire.encode_int64),
        "uint32": Varint(read=wire.read_uint32, encode=wire.encode_uint32),
        "uint64": Varint(read=wire.read_varint, encode=wire.encode_uint64),
        "sint32": Varint(read=wire.read_uint32, encode=wire.encode_sint32, finish=_UNZIGZAG, direct=False),
        "sint64": Varint(read=wire.read_varint, encode=wire.encode_sint64, finish=_UNZIGZAG, direct=False),
        "bool": Varint(read=wire.read_varint, encode=wire.encode_bool, finish="{} != 0", direct=False),
        # The member is looked up in a mapping that the field's own code brings along.
        "enum": Varint(read=wire.read_int32, encode=wire.encode_int32),
    }
)

FIXED: Final[Mapping[str, Fixed]] = MappingProxyType(
    {
        kind: Fixed(letter=letter, layout=struct.Struct("<" + letter))
        for kind, letter in {
            "fixed32": "I",
            "sfixed32": "i",
            "float": "f",
            "fixed64": "Q",
            "sfixed64": "q",
            "double": "d",
        }.items()
    }
)


def wire_type(kind: str) -> int:
    """Return the wire type of one value of this kind."""
    if kind in VARINTS:
        return wire.VARINT
    if kind in FIXED:
        return wire.FIXED32 if FIXED[kind].layout.size == 4 else wire.FIXED64
    return wire.DELIMITED


def zero(kind: str) -> str:
    """Return the default of a scalar kind, as source text."""
    special = {"string": "''", "bytes": "b''", "bool": "False", "float": "0.0", "double": "0.0"}
    return special.get(kind, "0")
