"""The codec against google.protobuf, on drawn messages of every type and on damaged bytes."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import betterproto
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError as GoogleDecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.errors import DecodeError
from supervisor.transport.codec import decode, encode
from supervisor.transport.codec.wire import NUMBER_ZERO

F = FieldDescriptor

SIGNED_32 = st.integers(-(2**31), 2**31 - 1)
SIGNED_64 = st.integers(-(2**63), 2**63 - 1)
UNSIGNED_32 = st.integers(0, 2**32 - 1)
UNSIGNED_64 = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=12) | st.text("ä", min_size=60, max_size=70)  # around the length whose varint grows

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    F.TYPE_DOUBLE: st.floats(),
    F.TYPE_FLOAT: st.floats(width=32),
    F.TYPE_INT32: SIGNED_32,
    F.TYPE_INT64: SIGNED_64,
    F.TYPE_UINT32: UNSIGNED_32,
    F.TYPE_UINT64: UNSIGNED_64,
    F.TYPE_SINT32: SIGNED_32,
    F.TYPE_SINT64: SIGNED_64,
    F.TYPE_FIXED32: UNSIGNED_32,
    F.TYPE_FIXED64: UNSIGNED_64,
    F.TYPE_SFIXED32: SIGNED_32,
    F.TYPE_SFIXED64: SIGNED_64,
    F.TYPE_BOOL: st.booleans(),
    F.TYPE_STRING: TEXT,
    F.TYPE_BYTES: st.binary(max_size=140),
    F.TYPE_ENUM: st.sampled_from([0, 1, 300, -5, 7, -1, 2**31 - 1, -(2**31)]),
}

# What betterproto's datetime and timedelta can hold: whole microseconds, years 1 to 9999.
DATETIMES = st.datetimes(timezones=st.just(UTC))
TIMEDELTAS = st.timedeltas(timedelta(days=-3_650_000), timedelta(days=3_650_000))


@st.composite
def messages(draw: st.DrawFn, cls: type, depth: int = 2) -> Any:
    """Draw a message of this google.protobuf class; about half of its fields are set."""
    message = cls()
    fields = tuple(message.DESCRIPTOR.fields)
    for field in (
        draw(st.lists(st.sampled_from(fields), max_size=8, unique_by=lambda field: field.number)) if fields else []
    ):
        _draw_field(draw, message, field, depth)
    return message


def _draw_field(draw: st.DrawFn, message: Any, field: Any, depth: int) -> None:
    held = getattr(message, field.name)
    if field.type != F.TYPE_MESSAGE:
        if field.is_repeated:
            held.extend(draw(st.lists(SCALARS[field.type], max_size=4)))
        else:
            setattr(message, field.name, draw(SCALARS[field.type]))
    elif field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        for one in draw(st.lists(SCALARS[key.type], max_size=3)):
            if value.type != F.TYPE_MESSAGE:
                held[one] = draw(SCALARS[value.type])
            elif depth > 0:
                held[one].MergeFrom(_draw_message(draw, type(held[one]), depth - 1))
    elif depth > 0:
        for _ in range(draw(st.integers(1, 3))) if field.is_repeated else (0,):
            made = held.add() if field.is_repeated else held
            made.SetInParent()
            made.MergeFrom(_draw_message(draw, type(made), depth - 1))


def _draw_message(draw: st.DrawFn, cls: Any, depth: int) -> Any:
    name = cls.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        made = cls()
        made.FromDatetime(draw(DATETIMES))
        return made
    if name == "google.protobuf.Duration":
        made = cls()
        made.FromTimedelta(draw(TIMEDELTAS))
        return made
    return draw(messages(cls, depth))


def to_text(message: Any, *, unknown: bool = True) -> str:
    """Return all that a google message holds, with NaN equal to NaN and maps sorted."""
    return text_format.MessageToString(message, print_unknown_fields=unknown)


def _python_name(cls: type[betterproto.Message], number: int) -> str:
    meta: Any = getattr(cls, "_betterproto")  # noqa: B009 - mypy cannot type betterproto's class property
    name: str = meta.field_name_by_number[number]
    return name


def from_google(cls: type[betterproto.Message], message: Any) -> Any:
    """Build the betterproto message that a caller would have built to say the same."""
    meta: Any = getattr(cls, "_betterproto")  # noqa: B009 - as above
    arguments: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = _python_name(cls, field.number)
        python = meta.cls_by_field[name]
        if field.type == F.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            python = meta.cls_by_field[name + ".value"]
            arguments[name] = {key: _one_from_google(entry, python, held) for key, held in value.items()}
        elif field.is_repeated:
            arguments[name] = [_one_from_google(field, python, held) for held in value]
        else:
            arguments[name] = _one_from_google(field, python, value)
    return cls(**arguments)


def _one_from_google(field: Any, python: Any, value: Any) -> Any:
    if field.type == F.TYPE_ENUM:
        return python.try_value(value)
    if field.type != F.TYPE_MESSAGE:
        return value
    name = field.message_type.full_name
    if name == "google.protobuf.Timestamp":
        return value.ToDatetime(UTC)
    if name == "google.protobuf.Duration":
        return value.ToTimedelta()
    if _is_wrapper(field.message_type):
        return value.value
    return from_google(python, value)


def _is_wrapper(descriptor: Descriptor) -> bool:
    return descriptor.file.name == "google/protobuf/wrappers.proto"


def assert_same(message: Any, google: Any) -> None:
    """Compare values and presence, field by field."""
    present = {field.number: value for field, value in google.ListFields()}
    for field in google.DESCRIPTOR.fields:
        name = _python_name(type(message), field.number)
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            chosen, _ = betterproto.which_one_of(message, field.containing_oneof.name)
            assert (chosen == name) == (field.number in present), name
            if field.number in present:
                _assert_value(field, getattr(message, name), present[field.number])
            continue
        held = getattr(message, name)
        if field.number in present:
            _assert_value(field, held, present[field.number])
        else:
            blank = not held or (isinstance(held, datetime) and held.timestamp() == 0)
            assert blank, f"{name} should be unset, not {held!r}"
            if isinstance(held, betterproto.Message):
                assert not betterproto.serialized_on_wire(held), name


def _assert_value(field: Any, ours: Any, theirs: Any) -> None:
    if field.type == F.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        assert ours.keys() == set(theirs)
        for key in theirs:
            _assert_one(entry, ours[key], theirs[key])
    elif field.is_repeated:
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            _assert_one(field, one, other)
    else:
        _assert_one(field, ours, theirs)


def _assert_one(field: Any, ours: Any, theirs: Any) -> None:
    if isinstance(theirs, float):
        assert type(ours) is float
        assert (math.isnan(ours) and math.isnan(theirs)) or struct.pack("<d", ours) == struct.pack("<d", theirs)
    elif field.type != F.TYPE_MESSAGE:
        assert ours == theirs
        assert isinstance(ours, type(theirs))
    elif field.message_type.full_name == "google.protobuf.Timestamp":
        assert ours == theirs.ToDatetime(UTC)
    elif field.message_type.full_name == "google.protobuf.Duration":
        assert ours == theirs.ToTimedelta()
    elif _is_wrapper(field.message_type):
        assert ours == theirs.value or math.isnan(ours)
    else:
        assert_same(ours, theirs)


# --- the tests -------------------------------------------------------------------------------------------------------

CLASSES = [
    "Scalars",
    "Optionals",
    "Repeateds",
    "Maps",
    "Oneofs",
    "Nests",
    "Everything",
    "Tree",
    "Wrappers",
    "Times",
    "WellKnown",
]

# google.protobuf keeps what a datetime cannot hold, so damaged times are compared elsewhere.
TIMELESS = [name for name in CLASSES if name != "Times"]

thorough = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", CLASSES)
@thorough
@given(data=st.data())
def test_what_google_wrote_is_read_alike(name: str, data: st.DataObject, bp: ModuleType, pb: ModuleType) -> None:
    """Every value and every presence survives the way from google.protobuf's bytes into a message and back."""
    theirs = data.draw(messages(getattr(pb, name)))
    raw = theirs.SerializeToString(deterministic=True)
    ours = decode(getattr(bp, name), raw)
    assert to_text(type(theirs).FromString(encode(ours))) == to_text(theirs)  # before a read creates defaults
    assert_same(ours, theirs)
    assert to_text(type(theirs).FromString(encode(ours))) == to_text(theirs)  # and after


@pytest.mark.parametrize("name", CLASSES)
@thorough
@given(data=st.data())
def test_what_a_caller_built_is_written_alike(name: str, data: st.DataObject, bp: ModuleType, pb: ModuleType) -> None:
    """A message built by constructor calls becomes the bytes that google.protobuf makes of the same message."""
    theirs = data.draw(messages(getattr(pb, name)))
    raw = encode(from_google(getattr(bp, name), theirs))
    assert to_text(type(theirs).FromString(raw)) == to_text(theirs)
    assert len(raw) == theirs.ByteSize()


@pytest.mark.parametrize("name", ["Scalars", "Optionals", "Repeateds", "Oneofs", "Nests"])
@thorough
@given(data=st.data())
def test_bytes_are_identical_without_maps(name: str, data: st.DataObject, bp: ModuleType, pb: ModuleType) -> None:
    """Where order is not free, which it is in maps only, the bytes are google.protobuf's own."""
    theirs = data.draw(messages(getattr(pb, name), depth=1))
    raw = theirs.SerializeToString()
    assert encode(from_google(getattr(bp, name), theirs)) == raw
    assert encode(decode(getattr(bp, name), raw)) == raw


def damage(data: st.DataObject, raw: bytes) -> bytes:
    """Overwrite, insert, delete, repeat or splice bytes, a few times."""
    out = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(out)))
        stop = data.draw(st.integers(at, min(len(out), at + 8)))
        new = data.draw(st.binary(max_size=6) | st.just(bytes(out[at:stop])) | st.sampled_from(INTERESTING))
        out[at:stop] = new
    return bytes(out)


INTERESTING = [
    b"\x00",
    b"\x0b\x0c",
    b"\x80\x00",
    b"\xff" * 9 + b"\x01",
    b"\xff" * 10,
    b"\xff\xff\xff\xff\x07",
    b"\x0e",
    b"\x7f",
]


@pytest.mark.parametrize("name", TIMELESS)
@settings(thorough, max_examples=60)
@given(data=st.data())
def test_damaged_bytes_are_judged_alike(name: str, data: st.DataObject, bp: ModuleType, pb: ModuleType) -> None:
    """Bytes that google.protobuf rejects are rejected; what it makes of the others comes out of us too."""
    cls = getattr(pb, name)
    intact = data.draw(messages(cls)).SerializeToString()
    raw = damage(data, intact)
    try:
        theirs = cls.FromString(raw)
    except GoogleDecodeError:
        with pytest.raises(DecodeError):
            decode(getattr(bp, name), raw)
        return
    try:
        ours = decode(getattr(bp, name), raw)
    except DecodeError as error:
        if NUMBER_ZERO in str(error):  # the one thing that upb lets pass here and there
            return
        raise
    # A wrapper is a plain value in betterproto, which has no place for unknown fields.
    unknown = name != "Wrappers"
    assert to_text(cls.FromString(encode(ours)), unknown=unknown) == to_text(theirs, unknown=unknown)


@pytest.mark.parametrize("name", ["Times", "Everything", "WellKnown"])
@settings(thorough, max_examples=60)
@given(raw=st.binary(max_size=64))
def test_only_a_decode_error_escapes(name: str, raw: bytes, bp: ModuleType) -> None:
    """Noise either decodes or raises `DecodeError`, never anything else."""
    try:
        message = decode(getattr(bp, name), raw)
    except DecodeError:
        return
    assert decode(getattr(bp, name), encode(message)) == message


@thorough
@given(data=st.data())
def test_damaged_times_decode_or_raise_a_decode_error(data: st.DataObject, bp: ModuleType, pb: ModuleType) -> None:
    """Times beyond what Python can hold raise `DecodeError`, not `OverflowError`."""
    raw = damage(data, data.draw(messages(pb.Times)).SerializeToString())
    try:
        message = decode(bp.Times, raw)
    except DecodeError:
        return
    assert decode(bp.Times, encode(message)) == message
