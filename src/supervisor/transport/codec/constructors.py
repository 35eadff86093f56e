"""Making messages and reading their fields: betterproto's own way, compiled for each class.

The constructor that `dataclass` writes sets each field through betterproto's `__setattr__`, which looks at the whole message
each time, and then `__post_init__` looks at every field again: ten microseconds for a message of one field, as much as all
the rest of a call. What comes of it depends on the arguments alone, so it is written down once for each class:

    def __init__(_self_, name=_UNSET_, count=None, either=_UNSET_, other=_UNSET_):
        _fields_ = _attributes_(_self_, '__dict__')
        if _fields_:
            return _original_(_self_, name, count, either, other)
        _fields_['name'] = name
        ...
        _fields_['_serialized_on_wire'] = name is not _UNSET_ or (count is not _UNSET_ and count is not None) or ...
        _fields_['_unknown_fields'] = b''
        _fields_['_group_current'] = {'choice': 'other' if other is not _UNSET_ else 'either' if ... else None}

A message that has attributes already (a subclass's constructor set them, or it is constructed twice) goes the old way. Classes
whose construction is another's business are left alone: pydantic's, and those with a `__post_init__` or the like of their own.
Reading a field asks for its oneof each time; where a class has none, that is left out. Reading one that is not set makes its
default, with all warnings switched off meanwhile; a scalar's is made once for its class.

One thing is not done: betterproto marks a message without fields as set even where it is given to a field of another type, from
which it cannot be sent.
"""

from __future__ import annotations

import dataclasses
from functools import wraps
from typing import Any, Final

import betterproto

from supervisor.transport.codec.plan import FieldPlan, MessagePlan, Presence
from supervisor.transport.codec.source import Source

__all__ = ["compile_construction"]

_HOOKS: Final = ("__new__", "__post_init__", "__setattr__", "__getattribute__")
"""What takes part in construction beside the constructor: none of it may be a class's own."""

_UNSET: Final = betterproto.PLACEHOLDER
_attributes = object.__getattribute__


def _mark_if_empty(value: Any) -> None:
    """Note that a message of a class without fields was set: nothing else could tell."""
    if isinstance(value, betterproto.Message) and not dataclasses.fields(value):  # type: ignore[arg-type] # each is one
        value._serialized_on_wire = True  # noqa: SLF001 - as betterproto does


_SCOPE: Final[dict[str, Any]] = {"_UNSET_": _UNSET, "_attributes_": _attributes, "_mark_if_empty_": _mark_if_empty}
_OWN_NAMES: Final = {*_SCOPE, "_self_", "_fields_", "_original_", "_class_"}
"""Names in the text beside the fields'; a class with a field of that name is left alone."""


def compile_construction(plan: MessagePlan) -> None:
    """Give a class a constructor that does the same in less time, unless it is not betterproto's; idempotent."""
    cls: Any = plan.python
    if not _is_betterprotos(cls, plan):
        return
    cls.__init__ = _constructor(cls, plan)
    if not plan.groups:
        cls.__getattribute__ = _getter(cls, plan)


def _is_betterprotos(cls: Any, plan: MessagePlan) -> bool:
    code = getattr(cls.__dict__.get("__init__"), "__code__", None)
    return (
        code is not None
        and code.co_filename == "<string>"  # as `dataclass` compiles it
        and not hasattr(cls, "__pydantic_fields__")
        and all(getattr(cls, hook) is getattr(betterproto.Message, hook) for hook in _HOOKS)
        and code.co_kwonlyargcount == 0
        and {field.name for field in plan.fields} == set(_parameters(cls))
        and not {field.name for field in plan.fields} & _OWN_NAMES
        and all(getattr(cls, field.name) is field.blank for field in plan.fields)  # the defaults
    )


def _parameters(cls: Any) -> tuple[str, ...]:
    """Return the fields in the order in which they are passed by position."""
    code = cls.__init__.__code__
    names: tuple[str, ...] = code.co_varnames[1 : code.co_argcount]
    return names


def _constructor(cls: Any, plan: MessagePlan) -> Any:
    original = cls.__init__
    source = Source()
    for name, value in {**_SCOPE, "_original_": original, "_class_": cls}.items():
        source.name(name, value)
    fields = {field.name: field for field in plan.fields}
    ordered = [fields[name] for name in _parameters(cls)]
    parameters = "".join(f", {field.name}={'None' if field.blank is None else '_UNSET_'}" for field in ordered)
    with source.block(f"def __init__(_self_{parameters}):"):
        source.line("_fields_ = _attributes_(_self_, '__dict__')")
        with source.block("if _fields_ or type(_self_) is not _class_:"):
            source.line(f"return _original_(_self_{''.join(f', {field.name}' for field in ordered)})")
        for field in ordered:
            if field.value.kind == "message" and field.presence in {Presence.EXPLICIT, Presence.ONEOF}:
                with source.block(f"if {_is_set(field)}:"):
                    source.line(f"_mark_if_empty_({field.name})")
            source.line(f"_fields_[{field.name!r}] = {field.name}")
        source.line(f"_fields_['_serialized_on_wire'] = {' or '.join(map(_is_set, ordered)) or False}")
        source.line("_fields_['_unknown_fields'] = b''")
        groups = ", ".join(f"{group!r}: {_chosen(group, ordered)}" for group in _groups(ordered))
        source.line(f"_fields_['_group_current'] = {{{groups}}}")
    return wraps(original)(source.compile("__init__", f"constructor of {cls.__module__}.{cls.__qualname__}"))


def _groups(ordered: list[FieldPlan]) -> dict[str, None]:
    return dict.fromkeys(field.group for field in ordered if field.group)


def _is_set(field: FieldPlan) -> str:
    """Return an expression for whether an argument was given; None says so only where it cannot be a value."""
    given = f"{field.name} is not _UNSET_"
    return f"({given} and {field.name} is not None)" if field.blank is None else given


def _chosen(group: str, ordered: list[FieldPlan]) -> str:
    """Return an expression for the member of a oneof that was given: the last one, when it was several."""
    members = [field for field in ordered if field.group == group]
    return " else ".join([f"{field.name!r} if {_is_set(field)}" for field in reversed(members)] + ["None"])


def _getter(cls: Any, plan: MessagePlan) -> Any:
    """Return `__getattribute__` for a class without a oneof.

    A field that is read before it is set gets its default, as betterproto gives it; but a scalar's is made once.
    """
    original = cls.__getattribute__
    defaults: dict[str, Any] = {}
    scalars = {field.name for field in plan.fields if field.presence is Presence.IMPLICIT}

    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807 - what it is to be
        value = _attributes(self, name)
        if value is not _UNSET:
            return value
        if name in defaults:
            value = _attributes(self, "__dict__")[name] = defaults[name]
            return value
        value = original(self, name)
        if name in scalars:
            defaults[name] = value
        return value

    return __getattribute__
