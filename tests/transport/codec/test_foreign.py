"""Messages that are not betterproto's."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from supervisor.errors import DecodeError, EncodeError
from supervisor.transport.codec.foreign import decode_foreign, encode_foreign


@pytest.fixture(params=["betterproto2", "google"])
def scalars(request: pytest.FixtureRequest, flavours: Any) -> Any:
    """The same message class in each of the other libraries."""
    return getattr(flavours, request.param).Scalars


def test_other_libraries_messages_pass(scalars: Any) -> None:
    """Their own methods write and read them."""
    message = scalars(f_int32=-3, f_string="ä")
    raw = encode_foreign(message)
    assert type(raw) is bytes
    assert decode_foreign(scalars, raw) == message


@pytest.mark.parametrize("raw", [b"\x72\x01\xff", b"\x08", b"\xff" * 12, b"\x4d\x00"], ids=bytes.hex)
def test_their_exceptions_become_decode_errors(scalars: Any, raw: bytes) -> None:
    """Whatever their parser raises, which differs from library to library, comes out as one type with its cause."""
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - any type, which is the point
        scalars.FromString(raw)
    with pytest.raises(DecodeError, match=r"^Scalars: ") as ours:
        decode_foreign(scalars, raw)
    assert type(ours.value.__cause__) is theirs.type


def test_their_exceptions_become_encode_errors(flavours: Any) -> None:
    """A value that betterproto2 cannot write is an `EncodeError`."""
    with pytest.raises(EncodeError) as caught:
        encode_foreign(flavours.betterproto2.Scalars(f_string=5))
    assert caught.value.message_type == "Scalars"
    assert caught.value.__cause__ is not None


class Plain:
    """A message with no more than the fallback methods."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __bytes__(self) -> bytes:
        return self.text.encode()

    @classmethod
    def parse(cls, data: bytes) -> Plain:
        """Read it back."""
        return cls(data.decode())


def test_bytes_and_parse_are_enough() -> None:
    """A class without `SerializeToString` and `FromString` is used through `__bytes__` and `parse`."""
    assert decode_foreign(Plain, encode_foreign(Plain("ä"))).text == "ä"


def test_what_is_no_message_is_refused() -> None:
    """A type without any of the methods is named in the error."""
    with pytest.raises(EncodeError, match="object is not a message"):
        encode_foreign(object())
    with pytest.raises(DecodeError, match="object is not a message type"):
        decode_foreign(object, b"")


def test_no_other_library_is_imported() -> None:
    """The codec works without google.protobuf and betterproto2, and does not load them."""
    code = "import sys, supervisor.transport.codec; print([m for m in ('google.protobuf', 'betterproto2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
