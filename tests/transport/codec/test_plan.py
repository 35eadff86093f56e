"""What is read from a message class."""

from __future__ import annotations

from datetime import datetime
from types import ModuleType

import betterproto
import pytest

from supervisor.transport.codec.plan import Presence, ValuePlan, read_plan
from supervisor.transport.codec.wire import UnsupportedFieldError


def test_fields_come_in_the_order_of_their_numbers(bp: ModuleType) -> None:
    """The order on the wire is by number, whatever the order of declaration."""
    numbers = [field.number for field in read_plan(bp.Scalars).fields]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 2**29 - 1


@pytest.mark.parametrize(
    ("message", "field", "presence"),
    [
        ("Scalars", "f_int32", Presence.IMPLICIT),
        ("Optionals", "f_int32", Presence.EXPLICIT),
        ("Nests", "inner", Presence.EXPLICIT),
        ("Wrappers", "w_string", Presence.EXPLICIT),
        ("Oneofs", "inner", Presence.ONEOF),
        ("Repeateds", "f_inner", Presence.REPEATED),
        ("Maps", "to_inner", Presence.MAP),
    ],
)
def test_presence_is_told_apart(message: str, field: str, presence: Presence, bp: ModuleType) -> None:
    """Each sort of field is recognised."""
    fields = {plan.name: plan for plan in read_plan(getattr(bp, message)).fields}
    assert fields[field].presence is presence


def test_the_class_behind_a_message_is_found(bp: ModuleType) -> None:
    """In lists, maps and optionals, for times, wrappers and the class itself."""
    inner = ValuePlan(kind="message", python=bp.Inner)
    values = {
        (cls.__name__, field.name): field.value
        for cls in (bp.Optionals, bp.Repeateds, bp.Maps, bp.Inner, bp.Times, bp.Wrappers)
        for field in read_plan(cls).fields
    }
    assert values["Optionals", "f_inner"] == values["Repeateds", "f_inner"] == values["Maps", "to_inner"] == inner
    assert values["Inner", "deeper"] == inner
    assert values["Times", "named"].python is values["Times", "maybe_at"].python is datetime
    assert values["Wrappers", "w_map"].wraps == values["Wrappers", "w_text"].wraps == "string"


def test_unset_is_none_or_the_placeholder(bp: ModuleType) -> None:
    """The value that betterproto holds for an unset field is kept in the plan."""
    assert {field.blank for field in read_plan(bp.Optionals).fields} == {None}
    assert {field.blank for field in read_plan(bp.Scalars).fields} == {betterproto.PLACEHOLDER}


def test_a_map_of_number_wrappers_cannot_be_described(bp: ModuleType) -> None:
    """The error names the field."""
    with pytest.raises(UnsupportedFieldError, match="values"):
        read_plan(bp.NumberWrapperMap)
