"""The primitives of the wire format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.transport.codec import wire
from supervisor.transport.codec.wire import MalformedError


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_a_varint_is_read_as_it_was_written(value: int, rest: bytes) -> None:
    """Any 64-bit number comes back, with the position right behind it."""
    raw = wire.encode_varint(value)
    assert wire.read_varint(raw + rest, 0) == (value, len(raw))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("int32", -(2**31), 2**31 - 1),
        ("int64", -(2**63), 2**63 - 1),
        ("uint32", 0, 2**32 - 1),
        ("uint64", 0, 2**64 - 1),
        ("sint32", -(2**31), 2**31 - 1),
        ("sint64", -(2**63), 2**63 - 1),
    ],
)
def test_a_number_outside_its_kind_is_refused(kind: str, low: int, high: int) -> None:
    """The limits themselves are encoded; one beyond either of them is a `ValueError` that names the kind."""
    encode = getattr(wire, f"encode_{kind}")
    assert 1 <= len(encode(low)) <= 10
    assert 1 <= len(encode(high)) <= 10
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError, match=kind):
            encode(beyond)


def test_bits_beyond_the_64th_are_ignored() -> None:
    """Ten bytes of 7 bits hold 70; the parser inside google.protobuf drops the last six, and so do we."""
    assert wire.read_varint(b"\xff" * 9 + b"\x7f", 0) == (2**64 - 1, 10)


def test_an_eleventh_byte_is_refused() -> None:
    """A varint that goes on after ten bytes is malformed, however small its value."""
    with pytest.raises(MalformedError):
        wire.read_varint(b"\x80" * 10 + b"\x00", 0)


@pytest.mark.parametrize(
    ("read", "raw"),
    [
        pytest.param(wire.read_key, b"\x90\x80\x80\x80\x80\x00", id="key of 6 bytes"),
        pytest.param(wire.read_key, b"\x80\x80\x80\x80\x10", id="key of 33 bits"),
        pytest.param(wire.read_length, b"\x81\x80\x80\x80\x80\x00", id="length of 6 bytes"),
        pytest.param(wire.read_length, b"\x80\x80\x80\x80\x08", id="length of 32 bits"),
    ],
)
def test_keys_and_lengths_are_shorter_than_other_varints(read: object, raw: bytes) -> None:
    """A key has at most 5 bytes and 32 bits, a length 5 bytes and 31 bits."""
    assert callable(read)
    with pytest.raises(MalformedError):
        read(raw, 0)


def test_nested_groups_are_skipped_without_recursion() -> None:
    """Groups may nest as deep as the limit says, which is not Python's."""
    deep = 50_000
    raw = b"\x0b" * deep + b"\x0c" * deep
    assert wire.skip_field(raw, 1, len(raw), 0x0B, deep) == len(raw)
    with pytest.raises(MalformedError, match="deep"):
        wire.skip_field(raw, 1, len(raw), 0x0B, deep - 1)


def test_touching_spans_are_joined() -> None:
    """A run of unknown fields costs one span, not one per field."""
    spans = [0, 2]
    wire.extend_spans(spans, 2, 5)
    wire.extend_spans(spans, 7, 9)
    assert spans == [0, 5, 7, 9]
    assert wire.gather(b"0123456789", spans) == b"0123478"


def test_a_field_may_not_span_two_occurrences() -> None:
    """`check_fields` accepts whole fields only."""
    wire.check_fields(b"\x0a\x02ab\x10\x01", 0, 6, 0)
    with pytest.raises(MalformedError):
        wire.check_fields(b"\x0a\x02ab\x10\x01", 0, 3, 0)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_packing_at_once_and_one_by_one_agree(values: list[int]) -> None:
    """The shortcut for runs of small numbers gives the bytes of the long way."""
    assert wire.pack_varints(values, wire.encode_int32) == b"".join(map(wire.encode_int32, values))


@pytest.mark.parametrize("value", [2, -1, "yes", None, 1.0], ids=repr)
def test_only_a_truth_value_is_a_bool(value: object) -> None:
    """What is neither true nor false is refused rather than sent as true."""
    with pytest.raises(TypeError):
        wire.encode_bool(value)
