"""Setting a sub-message, reading one, and what goes over the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType

import betterproto
import pytest

from supervisor.transport.codec import decode, encode
from supervisor.transport.codec.presence import mark_defaults


def test_an_empty_sub_message_that_was_set_is_sent(bp: ModuleType) -> None:
    """In the constructor, by assignment, of a class without fields, or as received."""
    assert encode(bp.Nests(inner=bp.Inner())) == b"\x0a\x00"
    message = bp.Nests()
    message.inner = bp.Inner()
    assert encode(message) == b"\x0a\x00"
    assert encode(bp.Nests(nothing=bp.Nothing())) == b"\x12\x00"
    assert encode(decode(bp.Nests, b"\x0a\x00")) == b"\x0a\x00"


def test_a_sub_message_that_was_read_is_not_sent(bp: ModuleType) -> None:
    """Looking changes nothing, however deep and however often, in a new message and in a received one."""
    for message in (bp.Everything(), decode(bp.Everything, b"")):
        assert message.nests.inner.deeper.name == ""
        assert message.nests.nothing == bp.Nothing()
        assert not message.tree.children
        assert bool(message) is False
        assert encode(message) == b""


def test_a_sub_message_that_was_read_and_filled_is_sent(bp: ModuleType) -> None:
    """Setting a field of it, even to its default, or filling its list, sets it."""
    message = bp.Nests()
    message.inner.count = 0
    assert encode(message) == b"\x0a\x00"
    message = bp.Nests()
    message.inner.items.append(1)
    assert encode(message) == b"\x0a\x03\x1a\x01\x01"


def test_an_epoch_that_was_set_is_sent(bp: ModuleType) -> None:
    """1970-01-01 and a duration of nothing are values, sent as empty messages."""
    message = bp.Times(at=datetime(1970, 1, 1, tzinfo=UTC), lasting=timedelta())
    assert encode(message) == b"\x0a\x00\x12\x00"
    assert encode(decode(bp.Times, encode(message))) == b"\x0a\x00\x12\x00"


def test_a_time_that_was_read_is_not_sent(bp: ModuleType) -> None:
    """The default that betterproto shows for an unset time is not a value."""
    message = bp.Times()
    assert message.at == datetime(1970, 1, 1, tzinfo=UTC)
    assert message.lasting == timedelta()
    assert repr(message.lasting) == repr(timedelta())
    assert encode(message) == b""
    message.lasting += timedelta()
    message.at += timedelta()
    assert encode(message) == b"\x0a\x00\x12\x00"  # now somebody set them


def test_the_mark_leaves_betterproto_as_it_was(bp: ModuleType) -> None:
    """A marked default equals, shows and serialises like any other message."""
    parent = bp.Nests()
    assert parent.inner == bp.Inner()
    assert repr(parent.inner) == "Inner()"
    assert betterproto.serialized_on_wire(parent.inner) is False
    assert parent.to_dict() == {}
    assert bytes(parent) == b""


def test_marking_twice_wraps_once() -> None:
    """However often the module is set up, a default is made through one wrapper."""
    before = betterproto.Message._get_field_default
    mark_defaults()
    assert betterproto.Message._get_field_default is before


@pytest.mark.parametrize("field", ["f_int32", "f_string", "f_bool", "f_double"])
def test_an_optional_default_is_sent(field: str, bp: ModuleType, pb: ModuleType) -> None:
    """proto3 `optional` tells zero from nothing."""
    zero = getattr(bp.Scalars(), field)
    assert pb.Optionals.FromString(encode(bp.Optionals(**{field: zero}))).HasField(field)
    assert encode(bp.Optionals()) == b""


def test_minus_zero_is_not_zero(bp: ModuleType, pb: ModuleType) -> None:
    """-0.0 equals the default, but it is another number."""
    raw = encode(bp.Scalars(f_double=-0.0, f_float=-0.0))
    assert raw == pb.Scalars(f_double=-0.0, f_float=-0.0).SerializeToString()
    assert str(decode(bp.Scalars, raw).f_double) == "-0.0"
