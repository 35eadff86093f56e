"""Messages that are made and read by compiled code are those that betterproto makes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from itertools import product
from types import ModuleType
from typing import Any

import betterproto
import pytest

from supervisor.transport.codec import encode
from supervisor.transport.codec.constructors import compile_construction
from supervisor.transport.codec.plan import Presence, read_plan


def attributes(message: Any) -> dict[str, Any]:
    """Return what a message consists of; the order in which betterproto sets it means nothing."""
    found: dict[str, Any] = object.__getattribute__(message, "__dict__")
    return found


def classes(bp: ModuleType) -> Iterator[Any]:
    """Return the message classes that the codec takes."""
    for value in vars(bp).values():
        if isinstance(value, type) and issubclass(value, betterproto.Message) and value is not bp.NumberWrapperMap:
            yield value


def pair(cls: Any) -> tuple[Any, Any]:
    """Return two fresh classes like `cls`, of which the second has what is compiled."""
    namespace = {name: getattr(cls, name) for name in cls.__annotations__}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    made: list[Any] = []
    for _ in range(2):
        space: dict[str, Any] = {"__annotations__": cls.__annotations__, "__module__": cls.__module__}
        for name in namespace:
            default = fields[name].default
            space[name] = dataclasses.field(default=default, metadata=fields[name].metadata)
        made.append(dataclasses.dataclass(eq=False, repr=False)(type(cls.__name__, (betterproto.Message,), space)))
    original, compiled = made
    compile_construction(read_plan(compiled))
    assert compiled.__init__ is not compiled.__init__.__wrapped__
    return original, compiled


def samples(bp: ModuleType, *, message: bool) -> list[Any]:
    """Return values for a field, right or not, since a constructor takes all alike."""
    values = [None, 0, 1, "", [], betterproto.PLACEHOLDER]
    return [*values, bp.Nothing(), bp.Inner(count=1)] if message else values


def test_every_class_is_constructed_alike(bp: ModuleType) -> None:
    """No argument, each field alone with each kind of value, by name and by position, and all of them."""
    for cls in classes(bp):
        original, compiled = pair(cls)
        fields = {field.name: field for field in read_plan(cls).fields}
        names = [field.name for field in dataclasses.fields(cls)]
        assert attributes(original()) == attributes(compiled())
        for at, name in enumerate(names):
            field = fields[name]
            message = field.value.kind == "message" and field.presence in {Presence.EXPLICIT, Presence.ONEOF}
            for value, same in zip(samples(bp, message=message), samples(bp, message=message), strict=True):
                first, second = original(**{name: value}), compiled(**{name: same})
                assert attributes(first) == attributes(second), (cls, name, value)
                if isinstance(value, betterproto.Message):
                    assert attributes(value) == attributes(same)
                filler = [betterproto.PLACEHOLDER] * at
                assert attributes(original(*filler, value)) == attributes(compiled(*filler, same))
        assert attributes(original(*range(len(names)))) == attributes(compiled(*range(len(names))))


def test_the_last_member_of_a_oneof_is_chosen(bp: ModuleType) -> None:
    """Whatever several members were given."""
    for cls in classes(bp):
        plan = read_plan(cls)
        original, compiled = pair(cls)
        for group in plan.groups:
            members = [field.name for field in dataclasses.fields(cls) if plan_group(plan, field.name) == group][:4]
            for values in product([betterproto.PLACEHOLDER, None, 0, 1], repeat=len(members)):
                given = dict(zip(members, values, strict=True))
                first, second = original(**given), compiled(**given)
                assert attributes(first) == attributes(second)
                assert betterproto.which_one_of(first, group)[0] == betterproto.which_one_of(second, group)[0]


def plan_group(plan: Any, name: str) -> str | None:
    """Return the oneof of a field."""
    group: str | None = next(field.group for field in plan.fields if field.name == name)
    return group


def test_wrong_arguments_are_refused_alike(bp: ModuleType) -> None:
    """With the same error, and the same signature for those who ask for it."""
    original, compiled = pair(bp.Inner)
    assert inspect.signature(original) == inspect.signature(compiled)
    count = len(dataclasses.fields(original))
    for arguments, options in [((), {"nothing": 1}), ((None,) * (count + 1), {}), ((1,), {"name": 1, "count": 1})]:
        messages = []
        for cls in (original, compiled):
            with pytest.raises(TypeError) as caught:
                cls(*arguments, **options)
            messages.append(str(caught.value))
        assert messages[0] == messages[1].replace("_self_", "self")


def test_fields_are_read_alike(bp: ModuleType) -> None:
    """Unset ones too, which betterproto makes when they are read, and what does not exist."""
    for cls in classes(bp):
        original, compiled = pair(cls)
        first, second = original(), compiled()
        for field in dataclasses.fields(cls):
            values = []
            for message in (first, second):
                try:
                    values.append(repr(getattr(message, field.name)))
                except AttributeError as error:
                    values.append(str(error))
            assert values[0] == values[1]
        assert attributes(first).keys() == attributes(second).keys()
        with pytest.raises(AttributeError):
            second.no_such_field  # noqa: B018 - reading it is the test


def test_a_scalar_that_is_not_set_has_its_default_and_nothing_more(bp: ModuleType) -> None:
    """Its default is betterproto's, which is not sent, and what two messages give of their own is not shared."""
    for cls in (bp.Scalars, bp.Inner):
        encode(cls())  # compiles
        first, second = cls(), cls()
        fresh = {name: make() for name, make in cls._betterproto.default_gen.items()}
        for message in (first, second):
            assert {name: getattr(message, name) for name in fresh} == fresh
            assert [type(getattr(message, name)) for name in fresh] == [type(value) for value in fresh.values()]
        assert encode(first) == b""
        assert first == second == cls()
    assert first.items is not second.items


def test_messages_that_have_attributes_already_go_the_old_way(bp: ModuleType) -> None:
    """A subclass's constructor may set its own first, and a second construction keeps what the first one left."""
    _, compiled = pair(bp.Inner)

    class Mine(compiled):  # type: ignore[misc, valid-type] # a class made at run time
        def __init__(self, extra: int, **fields: Any) -> None:
            object.__setattr__(self, "extra", extra)
            super().__init__(**fields)

    message = Mine(7, count=1)
    assert (message.extra, message.count) == (7, 1)
    type(message).__init__(message, 8, name="n")
    assert (message.extra, message.name, message.count) == (8, "n", 0)


def test_a_class_with_hooks_of_its_own_is_left_alone() -> None:
    """Its author has a reason for them."""

    @dataclasses.dataclass(eq=False, repr=False)
    class Hooked(betterproto.Message):
        name: str = betterproto.string_field(1)

        def __post_init__(self) -> None:
            super().__post_init__()
            object.__setattr__(self, "seen", True)

    before = Hooked.__init__
    compile_construction(read_plan(Hooked))
    assert Hooked.__init__ is before
    assert Hooked(name="n").seen  # type: ignore[attr-defined] # set by its hook
