"""Check the raw tables against their types, with errors that name table, key, what was found and what is allowed.

msgspec says what is wrong with a value, but not under which key of a dictionary, so its tables are walked here.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from datetime import date, datetime, time

import msgspec
from msgspec import inspect

from supervisor.errors import ConfigurationError
from supervisor.quoting import quote_text

__all__ = ["Place", "check_table"]

_BARE_KEY = re.compile("[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A table of a file, by the keys that lead to it."""

    path: str
    keys: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """Its name as TOML writes it."""
        return ".".join(key if _BARE_KEY.fullmatch(key) else quote_text(key, mark='"') for key in self.keys)

    def __truediv__(self, key: str) -> Place:
        return Place(self.path, (*self.keys, key))

    def error(self, message: str, *, key: str | None = None, hint: str | None = None) -> ConfigurationError:
        """Return the error that says `message` of this table, or of `key` in it."""
        table = f" [{self.table}]" if self.keys else ""
        where = f"{self.path}:{table}" + (f" {quote_text(key, mark='')}" if key is not None else "")
        return ConfigurationError(f"{where} {message}", path=self.path, table=self.table or None, key=key, hint=hint)


def check_table(raw: object, type_: type[msgspec.Struct], place: Place) -> None:
    """Check that `raw` is a table with the keys and values of `type_`; whether keys are missing is not checked.

    Raises:
        ConfigurationError: a key is unknown or a value is not one it takes.
    """
    if not isinstance(raw, dict):
        raise place.error(f"is {_describe_value(raw)}, expected a table")
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(type_)}
    for key, value in raw.items():
        if key not in fields:
            raise _unknown_key(key, list(fields), place)
        _check_value(value, fields[key], place, key)


def _unknown_key(key: str, known: list[str], place: Place) -> ConfigurationError:
    close = difflib.get_close_matches(key, known, n=1)
    return place.error(
        f"is an unknown key, allowed are {', '.join(known)}",
        key=key,
        hint=f"did you mean {close[0]!r}?" if close else None,
    )


def _check_value(value: object, type_: object, place: Place, key: str) -> None:
    info = inspect.type_info(type_)
    info = info.type if isinstance(info, inspect.Metadata) else info
    members = info.types if isinstance(info, inspect.UnionType) else (info,)
    for member in members:
        if isinstance(member, inspect.StructType) and (isinstance(value, dict) or len(members) == 1):
            check_table(value, member.cls, place / key)
            return
        if isinstance(member, inspect.DictType) and isinstance(value, dict):
            for name, item in value.items():
                _check_leaf(item, str, place / key, name)
            return
    _check_leaf(value, type_, place, key)


def _check_leaf(value: object, type_: object, place: Place, key: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise place.error(f"is {value}, expected a finite number", key=key)
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        expected = _describe_type(inspect.type_info(type_))
        raise place.error(f"is {_describe_value(value)}, expected {expected}", key=key) from error


_NOUNS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "the boolean"),  # before the numbers, since it is one
    ((int, float), "the number"),
    (str, "the text"),
    (list, "the list"),
    ((datetime, date, time), "the date or time"),
)


def _describe_value(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    noun = next(noun for types, noun in _NOUNS if isinstance(value, types))
    shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return f"{noun} {quote_text(shown, mark='', limit=60)}"


def _describe_type(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata():
            text = _describe_type(info.type)
        case inspect.UnionType():
            text = " or ".join(_describe_type(member) for member in info.types if member != inspect.NoneType())
        case inspect.LiteralType():
            text = ("one of " if len(info.values) > 1 else "") + ", ".join(map(repr, info.values))
        case inspect.EnumType():
            text = "one of " + ", ".join(repr(member.value) for member in info.cls)
        case inspect.IntType():
            text = "an integer" + _describe_bounds(info)
        case inspect.FloatType():
            text = "a number" + _describe_bounds(info)
        case inspect.BoolType():
            text = "true or false"
        case inspect.StrType():
            text = "a text" + (" that is not empty" if info.min_length else "")
        case inspect.VarTupleType():
            text = (
                f"a list{' that is not empty' if info.min_length else ''}, each item {_describe_type(info.item_type)}"
            )
        case _:
            text = _describe_tuple(info) if isinstance(info, inspect.TupleType) else "a table"
    return text


def _describe_bounds(info: inspect.IntType | inspect.FloatType) -> str:
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">=", info.ge), (">", info.gt), ("<=", info.le), ("<", info.lt))
        if bound is not None
    ]
    return f" {' and '.join(bounds)}" if bounds else ""


def _describe_tuple(info: inspect.TupleType) -> str:
    return f"a list of {len(info.item_types)}: {', '.join(map(_describe_type, info.item_types))}"
