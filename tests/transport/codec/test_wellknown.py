"""Timestamps, durations, and the other well-known types, against google.protobuf's own conversions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import ModuleType

import betterproto
import pytest

from supervisor.transport.codec import decode, encode

SPANS = [
    timedelta(),
    timedelta(seconds=-1.5),
    timedelta(microseconds=-1),
    timedelta(days=-3, microseconds=7),
    timedelta(1),
]
POINTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5))),
]


@pytest.mark.parametrize("span", SPANS, ids=str)
def test_a_duration_keeps_its_sign(span: timedelta, bp: ModuleType, pb: ModuleType) -> None:
    """Negative durations, which betterproto corrupts, are google's bytes and come back."""
    theirs = pb.Times()
    theirs.lasting.FromTimedelta(span)
    raw = encode(bp.Times(lasting=span))
    assert raw == theirs.SerializeToString()
    assert decode(bp.Times, raw).lasting == span


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_timestamp_is_a_point_in_time(point: datetime, bp: ModuleType, pb: ModuleType) -> None:
    """From the first year to the last, to the microsecond, in UTC whatever zone it came from."""
    theirs = pb.Times()
    theirs.at.FromDatetime(point)
    raw = encode(bp.Times(at=point))
    assert raw == theirs.SerializeToString()
    assert decode(bp.Times, raw).at == point
    assert decode(bp.Times, raw).at.tzinfo is UTC


def test_what_is_finer_than_a_microsecond_is_cut_off(bp: ModuleType, pb: ModuleType) -> None:
    """Python's clock types end at microseconds; a duration is cut towards zero, a timestamp towards the past."""
    raw = pb.Times(at={"seconds": 1, "nanos": 1999}, lasting={"seconds": -1, "nanos": -1999}).SerializeToString()
    message = decode(bp.Times, raw)
    assert message.at == datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)
    assert message.lasting == timedelta(seconds=-1, microseconds=-1)


def test_wrappers_are_values_or_none(bp: ModuleType, pb: ModuleType) -> None:
    """A wrapper that holds its default is present; one that is absent is None."""
    raw = encode(bp.Wrappers(w_string="", w_int32=0, w_bool=False, w_list=[0, 5, None]))
    theirs = pb.Wrappers.FromString(raw)
    assert [theirs.HasField(name) for name in ("w_string", "w_int32", "w_bool", "w_bytes")] == [True, True, True, False]
    assert [held.value for held in theirs.w_list] == [0, 5, 0]
    ours = decode(bp.Wrappers, raw)
    assert (ours.w_string, ours.w_int32, ours.w_bool, ours.w_bytes) == ("", 0, False, None)


def test_a_struct_survives(bp: ModuleType, pb: ModuleType) -> None:
    """Struct, Value and ListValue come through with every kind of value, null included."""
    theirs = pb.WellKnown()
    theirs.struct.update(
        {"text": "a", "number": 1.5, "flag": False, "null": None, "list": [1, {"b": None}], "empty": {}}
    )
    theirs.list.extend([1, "b", None])
    theirs.value.null_value = 0
    theirs.any.Pack(pb.Inner(name="packed"))
    theirs.mask.paths.extend(["a.b", "c"])
    theirs.empty.SetInParent()
    ours = decode(bp.WellKnown, theirs.SerializeToString())
    assert ours.struct.fields["text"].string_value == "a"
    assert betterproto.which_one_of(ours.struct.fields["null"], "kind")[0] == "null_value"
    assert ours.any.type_url.endswith("everything.Inner")
    assert decode(bp.Inner, ours.any.value).name == "packed"
    assert ours.mask.paths == ["a.b", "c"]
    assert pb.WellKnown.FromString(encode(ours)) == theirs
