r"""Writes the encoder of one message class as Python source.

An encoder is `encode(message, depth) -> bytes`, or with `join` whatever that makes of a list of pieces. It reads the message's `__dict__`, because betterproto's attribute access costs
a microsecond and creates what it does not find, and writes the fields in the order of their numbers, as google.protobuf does:

    def encode(message, depth, join=join):
        if depth < 0:
            raise too_deep(cls)
        at, v = None, message
        try:
            fields = attributes(message, '__dict__')
            parts = []
            add = parts.append
            v = fields['name']
            if v is not UNSET and v is not None:
                at = 'name'
                raw = utf8(v)
                size = len(raw)
                if size:
                    add(prefixes_0a[size] if size < 128 else b'\n' + varint(size))
                    add(raw)
            ...
            return join(parts)
        except EncodeError:
            raise
        except MISFITS as error:
            raise misfit(cls, at, v, error) from error

There are few type checks: a value of the wrong type fails in the operation it is put to, and the handler says which field it
was. None means unset, as it does to betterproto.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import betterproto

from supervisor.errors import EncodeError
from supervisor.transport.codec import presence, wire
from supervisor.transport.codec.plan import FieldPlan, MessagePlan, Presence, ValuePlan
from supervisor.transport.codec.scalars import FIXED, VARINTS, wire_type
from supervisor.transport.codec.source import Source

__all__ = ["emit_encoder", "emit_wrapper_encoder"]

_MISFITS: Final = (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError, struct.error)


def _misfit(cls: type, field: str | None, value: object, error: Exception) -> EncodeError:
    """Say which value of which field cannot be encoded."""
    where = f"{cls.__name__}.{field}" if field else cls.__name__
    found = type(value).__name__
    return EncodeError(
        f"{where}: cannot encode this {found} ({error})", message_type=cls.__name__, field=field, value_type=found
    )


def _too_deep(cls: type) -> EncodeError:
    return EncodeError(f"{cls.__name__}: {wire.TOO_DEEP}", message_type=cls.__name__, value_type=cls.__name__)


def _expect(value: object, cls: type) -> None:
    if not isinstance(value, cls):
        raise TypeError(f"expected a {cls.__name__}")


def _as_bytes(value: object) -> bytes:
    """Accept the other bytes-like types, through `bytes`: the length of a memoryview counts items."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError("expected bytes")


def emit_encoder(plan: MessagePlan, codec_of: Callable[[ValuePlan], object]) -> Source:
    """Write the encoder of a message class; `codec_of` names the codec of a value that is a message."""
    return _MessageEncoder(plan, codec_of).source


def emit_wrapper_encoder(wrapped: str) -> Source:
    """Write the encoder of a wrapper message such as `google.protobuf.StringValue`, which takes the wrapped value.

    It lets the exception of a misfit through, for the encoder of the message around it to explain.
    """
    source = _new_source()
    with source.block("def encode(v, depth):"):
        # An element of a list of wrappers may be None: betterproto sends it as an empty wrapper.
        with source.block("if v is None:"):
            source.line("return b''")
        source.line("parts = []", "add = parts.append")
        _emit_unless_default(source, 1, wrapped)
        source.line("return b''.join(parts)")
    return source


def _new_source() -> Source:
    source = Source()
    source.name("as_bytes", _as_bytes)
    source.name("utf8", str.encode)
    source.name("varint", wire.encode_varint)
    return source


# --- pieces that every encoder shares --------------------------------------------------------------------------------


def _number(source: Source, number: int, kind: str, var: str) -> str:
    """Return an expression for the number in `var` with its key."""
    key = wire.key(number, wire_type(kind))
    if kind in FIXED:
        return f"{key!r} + {source.name(f'pack_{kind}', FIXED[kind].layout.pack)}({var})"
    encode = source.name(f"encode_{kind}", VARINTS[kind].encode)
    if not VARINTS[kind].direct:
        return f"{key!r} + {encode}({var})"
    return f"{_prefixes(source, key)}[{var}] if 0 <= {var} < 128 else {key!r} + {encode}({var})"


def _prefixes(source: Source, key: bytes) -> str:
    return source.name(f"prefixes_{key.hex()}", wire.prefixes(key))


def _head(source: Source, number: int) -> str:
    """Return an expression for the key and the length that stand before `size` bytes."""
    key = wire.key(number, wire.DELIMITED)
    return f"{_prefixes(source, key)}[size] if size < 128 else {key!r} + varint(size)"


def _emit_raw(source: Source, kind: str, var: str, codec: str | None = None, levels: int = 1) -> None:
    """Set `raw` to the bytes of a delimited value, and `size` to their number; a message is `levels` deeper than this."""
    if codec is not None:
        source.line(f"raw = {codec}.encode({var}, depth - {levels})")
    elif kind == "string":
        source.line(f"raw = utf8({var})")
    else:
        source.line(f"raw = {var} if type({var}) is bytes else as_bytes({var})")
    source.line("size = len(raw)")


def _emit_delimited(source: Source, number: int) -> None:
    source.line(f"add({_head(source, number)})", "add(raw)")


def _emit_always(source: Source, number: int, kind: str, codec: str | None) -> None:
    """Write `v`, default or not."""
    if wire_type(kind) == wire.DELIMITED:
        _emit_raw(source, kind, "v", codec)
        _emit_delimited(source, number)
    else:
        source.line(f"add({_number(source, number, kind, 'v')})")


def _emit_unless_default(source: Source, number: int, kind: str) -> None:
    """Write the scalar `v` unless it is the default of its type."""
    if kind in FIXED:
        zeros, key = bytes(FIXED[kind].layout.size), wire.key(number, wire_type(kind))
        source.line(f"raw = {source.name(f'pack_{kind}', FIXED[kind].layout.pack)}(v)")
        with source.block(f"if raw != {zeros!r}:"):  # -0.0 equals 0.0, but its bits do not
            source.line(f"add({key!r} + raw)")
    elif kind == "bool":
        encode = source.name("encode_bool", wire.encode_bool)
        with source.block(f"if v is not False and (raw := {encode}(v)) != {bytes(1)!r}:"):
            source.line(f"add({wire.key(number, wire.VARINT)!r} + raw)")
    elif kind in VARINTS:
        with source.block("if v != 0:"):
            source.line(f"add({_number(source, number, kind, 'v')})")
    else:
        _emit_raw(source, kind, "v")
        with source.block("if size:"):
            _emit_delimited(source, number)


# --- one message -----------------------------------------------------------------------------------------------------


class _MessageEncoder:
    """Writes one encoder. Names that end in a number belong to the field, or to the group, with that number."""

    def __init__(self, plan: MessagePlan, codec_of: Callable[[ValuePlan], object]) -> None:
        self.source = _new_source()
        self._codec_of = codec_of
        self._plan = plan
        self._groups = {group: index for index, group in enumerate(plan.groups)}
        for name, value in {
            "cls": plan.python,
            "attributes": object.__getattribute__,
            "expect": _expect,
            "is_set": presence.is_set,
            "join": b"".join,
            "misfit": _misfit,
            "too_deep": _too_deep,
            "pack_fixed": wire.pack_fixed,
            "pack_varints": wire.pack_varints,
            "EncodeError": EncodeError,
            "MISFITS": _MISFITS,
            "READ_DURATION": presence.READ_DURATION,
            "READ_TIMESTAMP": presence.READ_TIMESTAMP,
            "UNSET": betterproto.PLACEHOLDER,
        }.items():
            self.source.name(name, value)
        self._emit()

    def _emit(self) -> None:
        source = self.source
        with source.block("def encode(message, depth, join=join):"):
            with source.block("if depth < 0:"):
                source.line("raise too_deep(cls)")
            source.line("at, v = None, message")
            with source.block("try:"):
                source.line("fields = attributes(message, '__dict__')", "parts = []", "add = parts.append")
                if self._groups:
                    source.line("groups = fields['_group_current']")
                    source.line(*(f"chosen{index} = groups[{group!r}]" for group, index in self._groups.items()))
                for field in self._plan.fields:
                    self._emit_field(field)
                source.line("raw = fields['_unknown_fields']")
                with source.block("if raw:"):
                    source.line("add(raw)")
                source.line("return join(parts)")
            with source.block("except EncodeError:"):
                source.line("raise")
            with source.block("except MISFITS as error:"):
                source.line("raise misfit(cls, at, v, error) from error")

    def _emit_field(self, field: FieldPlan) -> None:
        with self._when_present(field):
            self.source.line(f"at = {field.name!r}")
            if field.presence is Presence.MAP:
                self._emit_map(field)
            elif field.presence is Presence.REPEATED:
                self._emit_repeated(field)
            elif field.presence is Presence.IMPLICIT:
                _emit_unless_default(self.source, field.number, field.value.kind)
            elif field.value.kind == "message" and field.presence is Presence.EXPLICIT:
                self._emit_message(field)
            else:
                self._emit_type_check(field)
                _emit_always(self.source, field.number, field.value.kind, self._codec(field))

    @contextmanager
    def _when_present(self, field: FieldPlan) -> Iterator[None]:
        source = self.source
        if field.group is None:
            source.line(f"v = fields[{field.name!r}]")
            condition = "if v is not UNSET and v is not None:"
        else:
            chosen = f"chosen{self._groups[field.group]} == {field.name!r}"
            condition = f"if {chosen} and (v := fields[{field.name!r}]) is not UNSET and v is not None:"
        with source.block(condition):
            yield

    def _codec(self, field: FieldPlan) -> str | None:
        if field.value.kind != "message":
            return None
        return self.source.name(f"codec{field.number}", self._codec_of(field.value))

    def _emit_type_check(self, field: FieldPlan) -> None:
        """Check the class of a sub-message: another class's fields would be read as if they were this one's."""
        python = field.value.python
        if python is not None and issubclass(python, betterproto.Message):
            expected = self.source.name(f"cls{field.number}", python)
            with self.source.block(f"if type(v) is not {expected}:"):
                self.source.line(f"expect(v, {expected})")

    def _emit_message(self, field: FieldPlan) -> None:
        """Write a sub-message, unless it only exists because somebody read it."""
        source, number, python = self.source, field.number, field.value.python
        if python is datetime or python is timedelta:
            with source.block(f"if v is not {'READ_TIMESTAMP' if python is datetime else 'READ_DURATION'}:"):
                _emit_always(source, number, "message", self._codec(field))
        elif python is None:
            _emit_always(source, number, "message", self._codec(field))
        else:
            self._emit_type_check(field)
            _emit_raw(source, "message", "v", self._codec(field))
            with source.block("if size or is_set(v):"):
                _emit_delimited(source, number)

    def _emit_repeated(self, field: FieldPlan) -> None:
        source, number, kind = self.source, field.number, field.value.kind
        with source.block("if type(v) is not list and type(v) is not tuple:"):
            source.line("expect(v, list)")
        if wire_type(kind) == wire.DELIMITED:
            source.line("items = v")
            with source.block("for v in items:"):
                self._emit_type_check(field)
                _emit_always(source, number, kind, self._codec(field))
            return
        if kind in FIXED:
            source.line(f"raw = pack_fixed({FIXED[kind].letter!r}, v)")
        else:
            source.line(f"raw = pack_varints(v, {source.name(f'encode_{kind}', VARINTS[kind].encode)})")
        source.line("size = len(raw)")
        with source.block("if size:"):
            _emit_delimited(source, number)

    def _emit_map(self, field: FieldPlan) -> None:
        source = self.source
        assert field.key is not None
        with source.block("if type(v) is not dict:"):
            source.line("expect(v, dict)")
        source.line("items = v")
        with source.block("for k, v in items.items():"):
            self._emit_type_check(field)
            self._emit_piece("head", 1, field.key.kind, "k", None)
            self._emit_piece("tail", 2, field.value.kind, "v", self._codec(field))
            source.line("raw = head + tail", "size = len(raw)")
            _emit_delimited(source, field.number)

    def _emit_piece(self, target: str, number: int, kind: str, var: str, codec: str | None) -> None:
        """Set `target` to the key or the value of a map entry, complete with its field key."""
        source = self.source
        if wire_type(kind) == wire.DELIMITED:
            _emit_raw(source, kind, var, codec, levels=2)  # the entry is a message too
            source.line(f"{target} = ({_head(source, number)}) + raw")
        else:
            source.line(f"{target} = {_number(source, number, kind, var)}")
