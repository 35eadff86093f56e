"""Bytes that are bad, unusual or hostile, against google.protobuf's verdict on them."""

from __future__ import annotations

import random
import time
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import DecodeError as GoogleDecodeError

from supervisor.errors import DecodeError, EncodeError
from supervisor.transport.codec import decode, encode
from supervisor.transport.codec.wire import encode_varint


def delimited(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field."""
    return encode_varint(number << 3 | 2) + encode_varint(len(payload)) + payload


def nested(levels: int, number: int = 4, payload: bytes = b"") -> bytes:
    """Return sub-messages inside each other."""
    for _ in range(levels):
        payload = delimited(number, payload)
    return payload


# --- bytes that are refused ------------------------------------------------------------------------------------------

BAD = {
    "tag cut short": ("Inner", b"\x8a"),
    "string cut short": ("Inner", b"\x0a\x05ab"),
    "length cut short": ("Inner", b"\x0a\x80"),
    "length of 4 GiB": ("Inner", b"\x0a\xff\xff\xff\xff\x0fa"),
    "length of 2 GiB": ("Inner", b"\x0a\xff\xff\xff\xff\x07a"),
    "length of 64 bits": ("Inner", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a"),
    "length in 6 bytes": ("Inner", b"\x0a\x81\x80\x80\x80\x80\x00a"),
    "key in 6 bytes": ("Inner", b"\x90\x80\x80\x80\x80\x00\x05"),
    "key of 33 bits": ("Inner", b"\x80\x80\x80\x80\x10\x01"),
    "varint cut short": ("Inner", b"\x10\xff"),
    "varint in 11 bytes": ("Inner", b"\x10" + b"\xff" * 10 + b"\x01"),
    "unknown varint in 11 bytes": ("Inner", b"\x78" + b"\xff" * 10 + b"\x01"),
    "unknown varint cut short": ("Inner", b"\x78\x80"),
    "unknown field cut short": ("Inner", b"\x7a\x05ab"),
    "unknown fixed64 cut short": ("Inner", b"\x79\x00"),
    "unknown fixed32 cut short": ("Inner", b"\x7d\x00"),
    "fixed32 cut short": ("Scalars", b"\x4d\x00\x00\x00"),
    "double cut short": ("Scalars", b"\x09" + bytes(7)),
    "fixed32 beyond its sub-message": ("Nests", b"\x22\x03\x4d\x00\x00" + bytes(8)),
    "varint beyond its sub-message": ("Nests", b"\x0a\x02\x10\x80" + b"\x00\x00"),
    "field number 0": ("Inner", b"\x00\x01"),
    "field number 0, delimited": ("Inner", b"\x02\x00"),
    "wire type 6": ("Inner", b"\x0e"),
    "wire type 7": ("Inner", b"\x0f"),
    "wire type 6 in a group": ("Inner", b"\x7b\x0e\x7c"),
    "end of no group": ("Inner", b"\x0c"),
    "end of another group": ("Inner", b"\x7b\x84\x01"),
    "group without end": ("Inner", b"\x7b\x08\x01"),
    "group ends in the parent": ("Nests", b"\x0a\x01\x7b\x7c"),
    "groups 101 deep": ("Inner", b"\x7b" * 101 + b"\x7c" * 101),
    "sub-messages 101 deep": ("Inner", nested(101)),
    "invalid UTF-8": ("Inner", b"\x0a\x01\xff"),
    "surrogate in UTF-8": ("Inner", b"\x0a\x03\xed\xa0\x80"),
    "overlong UTF-8": ("Inner", b"\x0a\x02\xc0\x80"),
    "invalid UTF-8 in a map key": ("Maps", delimited(12, b"\x0a\x01\xff\x12\x00")),
    "invalid UTF-8 in a list": ("Repeateds", b"\x72\x01\xff"),
    "invalid UTF-8 in a wrapper": ("Wrappers", delimited(7, b"\x0a\x01\xff")),
    "packed run cut short": ("Inner", b"\x1a\x01\x80"),
    "packed run beyond its length": ("Inner", b"\x1a\x01\x80\x01"),
    "packed fixed32 of 5 bytes": ("Repeateds", delimited(9, bytes(5))),
    "sub-message cut short": ("Nests", b"\x0a\x05\x0a\x01a"),
    "string split over two occurrences": ("Nests", b"\x0a\x02\x0a\x05" + b"\x0a\x05abcde"),
    "map entry cut short": ("Maps", b"\x62\x05\x0a\x01a"),
    "bad member of a oneof that is replaced": ("Oneofs", b"\x2a\x02\x0a\x05\x10\x01"),
    "bad timestamp": ("Times", b"\x0a\x02\x08\x80"),
    "timestamp cut short": ("Times", b"\x0a\x02\x08"),
}


@pytest.mark.parametrize(("name", "raw"), BAD.values(), ids=BAD)
def test_bad_bytes_are_refused(name: str, raw: bytes, bp: ModuleType, pb: ModuleType) -> None:
    """What google.protobuf refuses, we refuse, with an error that names the message."""
    with pytest.raises(GoogleDecodeError):
        getattr(pb, name).FromString(raw)
    with pytest.raises(DecodeError, match=f"^{name}: "):
        decode(getattr(bp, name), raw)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        pytest.param("Times", delimited(1, b"\x08" + encode_varint(2**62)), id="timestamp after the year 9999"),
        pytest.param("Times", delimited(1, b"\x08" + encode_varint(2**64 - 2**40)), id="timestamp before the year 1"),
        pytest.param("Times", delimited(2, b"\x08" + encode_varint(2**62)), id="duration of 100 billion years"),
        pytest.param("Inner", b"\x7b\x00\x01\x7c", id="field number 0 in an unknown group"),
        pytest.param("Nothing", b"\x00\x00", id="field number 0 in a message without fields"),
    ],
)
def test_what_we_alone_refuse(name: str, raw: bytes, bp: ModuleType, pb: ModuleType) -> None:
    """The few inputs that google.protobuf accepts and we do not: Python has no such time, no field has the number 0."""
    getattr(pb, name).FromString(raw)
    with pytest.raises(DecodeError):
        decode(getattr(bp, name), raw)


@pytest.mark.parametrize("name", ["Scalars", "Repeateds", "Maps", "Oneofs", "Wrappers", "Times", "Everything"])
def test_noise_raises_nothing_but_decode_errors(name: str, bp: ModuleType) -> None:
    """Ten thousand strings of noise, seeded, decode or raise `DecodeError`."""
    dice = random.Random(name)
    refused = 0
    for _ in range(10_000):
        try:
            decode(getattr(bp, name), dice.randbytes(dice.randrange(24)))
        except DecodeError:
            refused += 1
    assert 0 < refused < 10_000


# --- bytes that are unusual and valid --------------------------------------------------------------------------------

ODD = {
    "empty": ("Inner", b""),
    "varint for a string": ("Inner", b"\x08\x05"),
    "varint for a message": ("Inner", b"\x20\x05"),
    "packed for a single number": ("Inner", b"\x12\x01\x05"),
    "fixed32 for a varint": ("Inner", b"\x15\x01\x02\x03\x04"),
    "fixed64 for a list": ("Inner", b"\x19" + bytes(8)),
    "group for a message": ("Inner", b"\x23\x0a\x01a\x24"),
    "unknown group": ("Inner", b"\x0a\x01a\x7b\x08\x01\x7c"),
    "groups 100 deep": ("Inner", b"\x7b" * 100 + b"\x7c" * 100),
    "sub-messages 100 deep": ("Inner", nested(100)),
    "overlong key": ("Inner", b"\x90\x80\x80\x80\x00\x05"),
    "overlong length": ("Inner", b"\x0a\x81\x80\x80\x80\x00a"),
    "overlong value": ("Inner", b"\x10\x81" + b"\x80" * 8 + b"\x00"),
    "overlong unknown key": ("Inner", b"\xf8\x80\x00\x05"),
    "70 bits": ("Inner", b"\x10" + b"\xff" * 9 + b"\x7f"),
    "int32 of 41 bits": ("Inner", b"\x10" + encode_varint(2**40 + 5)),
    "negative int32": ("Inner", b"\x10" + encode_varint(2**64 - 1)),
    "bool of 2**40": ("Scalars", b"\x68" + encode_varint(2**40)),
    "enum beyond 32 bits": ("Scalars", b"\x80\x01" + encode_varint(2**32 + 1)),
    "unknown enum": ("Scalars", b"\x80\x01\x63"),
    "negative enum": ("Scalars", b"\x80\x01" + encode_varint(2**64 - 5)),
    "highest field number": ("Scalars", b"\xf8\xff\xff\xff\x0f\x01"),
    "NUL in a string": ("Inner", b"\x0a\x01\x00"),
    "last scalar wins": ("Inner", b"\x10\x01\x10\x02"),
    "packed and not": ("Inner", b"\x18\x01\x1a\x02\x02\x03\x18\xac\x02\x1a\x03\x80\x01\x05"),
    "sub-message in two parts": ("Inner", b"\x22\x03\x0a\x01a\x22\x02\x10\x05\x22\x02\x18\x01"),
    "lists of two parts": ("Inner", b"\x22\x02\x18\x01\x22\x02\x18\x02"),
    "unknown fields of two parts": ("Inner", b"\x22\x02\x78\x01\x22\x02\x78\x02"),
    "wrapper in two parts": ("Wrappers", delimited(7, b"\x0a\x01a") + delimited(7, b"")),
    "timestamp in two parts": ("Times", delimited(1, b"\x08\x05") + delimited(1, b"\x10\xe8\x07")),
    "oneof: same message twice": ("Oneofs", b"\x2a\x03\x0a\x01a\x2a\x02\x10\x05"),
    "oneof: another in between": ("Oneofs", b"\x2a\x03\x0a\x01a\x10\x01\x2a\x02\x10\x05"),
    "oneof: another message": ("Oneofs", b"\x2a\x03\x0a\x01a\x52\x02\x10\x05"),
    "oneof: last is a default": ("Oneofs", b"\x10\x05\x1a\x00"),
    "map entry without anything": ("Maps", b"\x62\x00"),
    "map entry without key": ("Maps", delimited(12, b"\x12\x01a")),
    "map entry without message": ("Maps", delimited(17, b"\x0a\x01a")),
    "map value before key": ("Maps", delimited(12, b"\x12\x01a\x0a\x01b")),
    "map key twice": ("Maps", delimited(12, b"\x0a\x01a\x12\x01b") + delimited(12, b"\x0a\x01a\x12\x01c")),
    "map message in two parts": ("Maps", delimited(17, b"\x0a\x01k\x12\x03\x0a\x01a\x12\x02\x10\x05")),
    "map entry with an unknown field": ("Maps", delimited(12, b"\x0a\x01a\x12\x01b\x78\x01")),
    "map entry with a wrong key type": ("Maps", delimited(12, b"\x08\x01\x12\x01b")),
    "map of unknown enum": ("Maps", delimited(16, b"\x0a\x01a\x10\x63")),
    "varint for a map": ("Maps", b"\x60\x01"),
    "unpacked lists": ("Repeateds", b"\x38\x03\x38\x02\x4d\x01\x00\x00\x00\x68\x01\x80\x01\x01\x80\x01\x63"),
    "empty packed list": ("Repeateds", b"\x1a\x00"),
    "null in a Value": ("WellKnown", b"\x2a\x02\x08\x00"),
    "nothing in a Value": ("WellKnown", b"\x2a\x00"),
}


@pytest.mark.parametrize(("name", "raw"), ODD.values(), ids=ODD)
def test_odd_bytes_mean_what_google_reads(name: str, raw: bytes, bp: ModuleType, pb: ModuleType) -> None:
    """Decoding and encoding again gives google.protobuf the same message as the bytes themselves."""
    cls = getattr(pb, name)
    through_us = cls.FromString(encode(decode(getattr(bp, name), raw)))
    assert through_us.SerializeToString(deterministic=True) == cls.FromString(raw).SerializeToString(deterministic=True)


def test_an_old_peer_does_not_pack(bp: ModuleType, pb: ModuleType) -> None:
    """Lists sent element by element arrive in a class that would pack them."""
    raw = pb.Unpacked(f_sint32=[-1, 300], f_fixed32=[7], f_bool=[True, False], f_color=[1, 99]).SerializeToString()
    message = decode(bp.Repeateds, raw)
    assert (message.f_sint32, message.f_fixed32, message.f_bool) == ([-1, 300], [7], [True, False])
    assert message.f_color == [bp.Color.RED, 99]


def test_fields_of_a_newer_peer_survive(bp: ModuleType, pb: ModuleType) -> None:
    """Unknown fields, in sub-messages too, are kept and sent on."""
    newer = pb.NewerInner(name="a", added="b", deeper=pb.NewerInner(more=7))
    through_us = encode(decode(bp.Inner, newer.SerializeToString()))
    assert pb.NewerInner.FromString(through_us) == newer


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_any_buffer_is_decoded(make: Any, bp: ModuleType) -> None:
    """A buffer other than bytes gives the same message, with real bytes and strings in it."""
    raw = encode(bp.Scalars(f_string="a", f_bytes=b"b"))
    message = decode(bp.Scalars, make(raw))
    assert (message.f_string, message.f_bytes) == ("a", b"b")
    assert type(message.f_bytes) is bytes


# --- hostile bytes ---------------------------------------------------------------------------------------------------


def dividing(levels: int) -> bytes:
    """Return nested messages, each of which comes twice: decoding both and their union would take 3**levels steps."""
    raw = b""
    for _ in range(levels):
        raw = delimited(4, raw) + b"\x22\x00"
    return raw


HOSTILE = {
    "200k unknown varints": ("Inner", b"\xf8\x01\x05" * 200_000),
    "known and unknown in turn": ("Inner", b"\xf8\x01\x05\x10\x01" * 100_000),
    "500k empty sub-messages": ("Tree", b"\x12\x00" * 500_000),
    "500k parts of one sub-message": ("Inner", b"\x22\x00" * 500_000),
    "200k parts with unknown fields": ("Inner", b"\x22\x03\xf8\x01\x05" * 200_000),
    "200k turns of a oneof": ("Oneofs", b"\x2a\x00\x52\x00" * 200_000),
    "500k groups": ("Inner", b"\x7b\x7c" * 500_000),
    "500k empty map entries": ("Maps", b"\x62\x00" * 500_000),
    "200k odd map entries": ("Maps", b"\x62\x02\x78\x01" * 200_000),
    "two parts on 100 levels": ("Inner", dividing(100)),
    "two parts on 100 levels around 300 kB": ("Inner", nested(99, payload=b"\x0a\x01a" * 100_000) + b"\x22\x00"),
}


@pytest.mark.parametrize(("name", "raw"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_take_linear_time(name: str, raw: bytes, bp: ModuleType) -> None:
    """A megabyte made to be slow takes less CPU time than the limit, by a factor of three and more on a slow machine."""
    begin = time.process_time()
    encode(decode(getattr(bp, name), raw))
    assert time.process_time() - begin < 5


def test_the_number_of_sub_messages_is_bounded(bp: ModuleType) -> None:
    """An empty sub-message takes 2 bytes on the wire and hundreds in memory, so their number has a limit of its own."""
    assert len(decode(bp.Tree, b"\x12\x00" * 10, max_messages=10).children) == 10
    for raw in (b"\x12\x00" * 11, b"\x1a\x02\x12\x00" * 11, nested(5, number=2) + b"\x12\x00" * 6):
        with pytest.raises(DecodeError, match="more than 10 sub-messages"):
            decode(bp.Tree, raw, max_messages=10)


@pytest.mark.parametrize("depth", [0, 1, 5, 150])
def test_the_depth_is_the_callers_choice(depth: int, bp: ModuleType) -> None:
    """Exactly `max_depth` levels pass, in both directions."""
    message = decode(bp.Inner, nested(depth), max_depth=depth)
    assert encode(message, max_depth=depth) == nested(depth)
    deeper = decode(bp.Inner, nested(depth + 1), max_depth=depth + 1)
    with pytest.raises(DecodeError, match="deep"):
        decode(bp.Inner, nested(depth + 1), max_depth=depth)
    with pytest.raises(EncodeError, match="deep"):
        encode(deeper, max_depth=depth)


def test_a_map_entry_is_a_level(bp: ModuleType) -> None:
    """A message in a map is two levels down, in both directions."""
    message = bp.Tree(named={"a": bp.Tree(value=1)})
    assert decode(bp.Tree, encode(message, max_depth=2), max_depth=2) == message
    with pytest.raises(EncodeError):
        encode(message, max_depth=1)
    with pytest.raises(DecodeError):
        decode(bp.Tree, encode(message), max_depth=1)


def test_a_depth_beyond_python_is_still_a_typed_error(bp: ModuleType) -> None:
    """Whoever lifts the depth limit beyond Python's own gets the same errors, not a `RecursionError`."""
    with pytest.raises(DecodeError, match="deep"):
        decode(bp.Inner, nested(20_000), max_depth=10**6)
    loop = bp.Inner(name="a")
    loop.deeper = loop
    with pytest.raises(EncodeError, match="deep"):
        encode(loop, max_depth=10**6)
