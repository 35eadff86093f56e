"""Metadata as header fields and back (gRPC over HTTP/2, "Custom-Metadata"), and deadlines as `grpc-timeout`."""

from __future__ import annotations

import math
from binascii import a2b_base64
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from supervisor.errors import ConfigurationError
from supervisor.transport.engine.headers import Fields, literal

if TYPE_CHECKING:
    from grpclib.metadata import _Metadata
    from multidict import MultiDict

__all__ = [
    "MalformedMetadataError",
    "check_binary",
    "decode_metadata",
    "decode_timeout",
    "encode_literals",
    "encode_timeout",
]

_OWN: Final = frozenset({b"te", b"content-type", b"user-agent"})

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_SHORT: Final = 127  # lengths below it take one byte (RFC 7541, section 5.1)
_LENGTHS: Final = tuple(bytes((size,)) for size in range(_SHORT))

_MOST_DIGITS: Final = 8
_MOST: Final = 99_999_999


class MalformedMetadataError(ValueError):
    """A field whose value is not what its name promises."""


def decode_metadata(fields: Fields) -> _Metadata:
    """Return what the peer's application sent; values of keys that end in `-bin` are bytes.

    Raises:
        MalformedMetadataError: such a value is not base64.
    """
    from multidict import MultiDict  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

    found: MultiDict[str | bytes] = MultiDict()
    for name, value in fields:
        if name[:1] == b":" or name[:5] == b"grpc-" or name in _OWN:
            continue
        key = name.decode("latin-1")
        if name[-4:] == b"-bin":
            for part in value.split(b","):  # several values may come as one
                found.add(key, _decode_base64(key, part))
        else:
            found.add(key, value.decode("latin-1"))
    return cast("_Metadata", found)


def check_binary(fields: Fields) -> None:
    """Raise `MalformedMetadataError` for a `-bin` value that is not base64, whether or not anybody will read it."""
    for name, value in fields:
        if name[-4:] == b"-bin":
            for part in value.split(b","):
                _decode_base64(name.decode("latin-1"), part)


def _decode_base64(key: str, value: bytes) -> bytes:
    try:
        if not value.isascii():
            raise ValueError("not ASCII")  # noqa: TRY301 - translated below like what a2b_base64 raises
        return a2b_base64(value + b"=" * (-len(value) % 4))
    except ValueError as error:
        raise MalformedMetadataError(f"the value of header {key!r} is not base64: {error}") from None


def encode_literals(metadata: Any) -> bytes:
    """Return metadata as literals, for the end of a header block.

    Raises:
        ConfigurationError: HTTP/2 cannot carry it.
    """
    block = b""
    try:
        for key, value in metadata.items() if hasattr(metadata, "items") else metadata:
            # Printable ASCII that neither begins nor ends with a space goes out as it is.
            if (
                type(value) is str
                and 0 < len(value) < _SHORT
                and value.isascii()
                and value.isprintable()
                and value[0] != " " != value[-1]
            ):
                block += _key_literal(key) + _LENGTHS[len(value)] + value.encode("ascii")
            else:
                block += _encode_carefully(key, value)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"bad metadata: {error}") from error
    return block


@lru_cache(512)
def _key_literal(key: str) -> bytes:
    """Return all of a literal but the length of its value and the value; raises as grpclib does on a bad name."""
    return _encode_carefully(key, "v")[:-2]


def _encode_carefully(key: str, value: Any) -> bytes:
    """Return metadata as grpclib has it: its checks, and base64 for bytes."""
    from grpclib.metadata import encode_metadata  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

    return b"".join(
        [literal(name.encode("ascii"), text.encode("ascii")) for name, text in encode_metadata([(key, value)])]
    )


@lru_cache(512)
def encode_timeout(remaining: float) -> bytes:
    """Return `grpc-timeout`, as a literal, that is not shorter than `remaining` seconds: this side's clock decides.

    Rounded up to three digits, so that the same timeout gives the same block in every call, which costs less.
    """
    microseconds = max(1, math.ceil(remaining * 1e6))
    digits = 10 ** max(0, len(str(microseconds)) - 3)
    return _timeout_literal(-(-microseconds // digits) * digits)


def _timeout_literal(microseconds: int) -> bytes:
    for unit, size in ((b"u", 1), (b"m", 1_000), (b"S", 1_000_000)):
        value = -(-microseconds // size)
        if value <= _MOST:  # at most eight digits
            return literal(b"grpc-timeout", b"%d%b" % (value, unit))
    return literal(b"grpc-timeout", b"%dS" % _MOST)


def decode_timeout(value: bytes) -> float:
    """Return seconds.

    Raises:
        MalformedMetadataError: it is not a number of at most eight digits and a unit.
    """
    number, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not number.isdigit() or len(number) > _MOST_DIGITS:
        raise MalformedMetadataError(f"{value!r} is not a timeout")
    return int(number) * unit
