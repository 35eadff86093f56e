"""What a betterproto message class says about its fields, read once into frozen values.

This is the only module that reads betterproto's metadata (`_betterproto`, a private name of 2.0.0b7, which is the last
release of its line). Everything behind it works on `MessagePlan`.
"""

from __future__ import annotations

import enum
import typing
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import betterproto

from supervisor.transport.codec.wire import UnsupportedFieldError

__all__ = ["FieldPlan", "MessagePlan", "Presence", "ValuePlan", "read_plan"]


class Presence(enum.Enum):
    """How many values a field holds, and what tells a field that is set from one that is not."""

    IMPLICIT = "implicit"  # a scalar: set when it is not the default
    EXPLICIT = "explicit"  # proto3 `optional`, wrappers, sub-messages: set when there is a value
    ONEOF = "oneof"  # set when the group says so
    REPEATED = "repeated"
    MAP = "map"


class ValuePlan(NamedTuple):
    """One value of a field: an element of a list, a key or a value of a map, or the field itself.

    Attributes:
        kind: protobuf's type name: `int32`, `string`, `enum`, `message` ...
        python: the class of an enum or of a message (`datetime` and `timedelta` are messages too), else None.
        wraps: for a wrapper such as `google.protobuf.StringValue`: the kind of what it wraps.
    """

    kind: str
    python: type | None = None
    wraps: str | None = None


class FieldPlan(NamedTuple):
    """One field.

    Attributes:
        name: the attribute's name.
        number: the field number.
        value: what the field holds.
        key: the kind of the keys, for a map.
        group: the oneof it belongs to.
        blank: the attribute's value while the field is unset.
    """

    name: str
    number: int
    presence: Presence
    value: ValuePlan
    key: ValuePlan | None = None
    group: str | None = None
    blank: object = betterproto.PLACEHOLDER


class MessagePlan(NamedTuple):
    """One message class, its fields in the order of their numbers, its oneofs in the order of their first field."""

    python: type[betterproto.Message]
    fields: tuple[FieldPlan, ...]
    groups: tuple[str, ...]


# A map of wrappers keeps its Python type but not the wrapper's name. These Python types have one wrapper each; int and
# float have several, which differ on the wire.
_ONLY_WRAPPER = {str: "string", bytes: "bytes", bool: "bool"}


def read_plan(cls: type[betterproto.Message]) -> MessagePlan:
    """Describe `cls`; raises `UnsupportedFieldError` when a field's type cannot be told from betterproto's metadata."""
    meta: Any = getattr(cls, "_betterproto")  # noqa: B009 - mypy cannot type betterproto's class property
    fields = [_read_field(meta, name, field) for name, field in meta.meta_by_field_name.items()]
    return MessagePlan(
        python=cls,
        fields=tuple(sorted(fields, key=lambda field: field.number)),
        groups=tuple(dict.fromkeys(field.group for field in fields if field.group)),
    )


def _read_field(meta: Any, name: str, field: betterproto.FieldMetadata) -> FieldPlan:
    if field.map_types:
        key_kind, value_kind = field.map_types
        return FieldPlan(
            name=name,
            number=field.number,
            presence=Presence.MAP,
            key=ValuePlan(kind=key_kind),
            value=_read_map_value(name, value_kind, meta.cls_by_field[f"{name}.value"]),
        )
    return FieldPlan(
        name=name,
        number=field.number,
        presence=_presence(field, repeated=meta.default_gen[name] is list),
        value=_read_value(name, field.proto_type, meta.cls_by_field[name], field.wraps),
        group=field.group,
        blank=None if field.optional else betterproto.PLACEHOLDER,
    )


def _presence(field: betterproto.FieldMetadata, *, repeated: bool) -> Presence:
    if repeated:
        return Presence.REPEATED
    if field.group:
        return Presence.ONEOF
    if field.optional or field.proto_type == betterproto.TYPE_MESSAGE:
        return Presence.EXPLICIT
    return Presence.IMPLICIT


def _read_map_value(name: str, kind: str, python: Any) -> ValuePlan:
    if kind == betterproto.TYPE_MESSAGE and typing.get_origin(python) is not None:
        wrapped = typing.get_args(python)[0]
        if wrapped not in _ONLY_WRAPPER:
            raise UnsupportedFieldError(
                f"field {name!r} is a map of number wrappers, and betterproto does not keep which wrapper"
            )
        return ValuePlan(kind=kind, wraps=_ONLY_WRAPPER[wrapped])
    return _read_value(name, kind, python, None)


def _read_value(name: str, kind: str, python: Any, wraps: str | None) -> ValuePlan:
    if wraps is not None:
        return ValuePlan(kind=kind, wraps=wraps)
    if kind == betterproto.TYPE_ENUM:
        if not (isinstance(python, type) and issubclass(python, betterproto.Enum)):
            raise UnsupportedFieldError(f"field {name!r} is an enum, but its class is {python!r}")
        return ValuePlan(kind=kind, python=python)
    if kind == betterproto.TYPE_MESSAGE:
        if not (isinstance(python, type) and issubclass(python, (betterproto.Message, datetime, timedelta))):
            raise UnsupportedFieldError(f"field {name!r} is a message, but its class is {python!r}")
        return ValuePlan(kind=kind, python=python)
    return ValuePlan(kind=kind)
