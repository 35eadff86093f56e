"""Writes the decoder of one message class as Python source.

A decoder is `decode(data, pos, end, depth, take) -> message`. It reads `data[pos:end]`, may nest `depth` levels deeper, and
calls `take` once for every sub-message, so that whoever started it bounds their number. What it writes looks like this:

    def decode(data, pos, end, depth, take):
        if depth < 0:
            raise MalformedError(TOO_DEEP)
        fields = BLANK.copy()
        unknown = None
        while pos < end:
            start = pos
            tag = data[pos]
            pos += 1
            if tag > 127:
                tag, pos = read_key(data, start)
            if tag == 10:  # name
                ...
                fields['name'] = data[pos:stop].decode()
                pos = stop
            else:
                ...
        if pos != end:
            raise MalformedError(OVERRUN)
        ...
        message = new(cls)
        bind(message, '__dict__', fields)
        return message

Sub-messages that are not in a list are only located in the loop and decoded after it. Protobuf merges repeated occurrences
of such a field, and merging is by definition the same as decoding their concatenation; decoding each one as it comes, and
again when the next one comes, would let a peer double the work with every level of nesting.

An occurrence with the wrong wire type is an unknown field, and so is a map entry that holds an unknown field, as in upb.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import betterproto

from supervisor.transport.codec import wire
from supervisor.transport.codec.decode_pieces import (
    PARAMETERS,
    Case,
    emit_cases,
    emit_depth_check,
    emit_end_check,
    emit_key,
    emit_read,
    emit_skip,
    emit_stop,
    finish_of,
    new_source,
)
from supervisor.transport.codec.plan import FieldPlan, MessagePlan, Presence, ValuePlan
from supervisor.transport.codec.scalars import FIXED, wire_type, zero
from supervisor.transport.codec.source import Source

__all__ = ["emit_decoder"]


def _resolve(codec: Any, data: bytes, spans: list[int], depth: int, take: Callable[[], object]) -> Any:
    """Decode the sub-message that was found at `spans`; more than one span is merged."""
    if len(spans) == 2:  # noqa: PLR2004 - one span: a start and a stop
        return codec.decode(data, spans[0], spans[1], depth, take)
    for start, stop in zip(spans[::2], spans[1::2], strict=True):
        wire.check_fields(data, start, stop, depth)  # no field may begin in one occurrence and end in the next
    joined = wire.gather(data, spans)
    return codec.decode(joined, 0, len(joined), depth, take)


def emit_decoder(plan: MessagePlan, codec_of: Callable[[ValuePlan], object]) -> Source:
    """Write the decoder of a message class; `codec_of` names the codec of a value that is a message."""
    return _MessageDecoder(plan, codec_of).source


class _MessageDecoder:
    """Writes one decoder. Names that end in a number belong to the field, or to the group, with that number."""

    def __init__(self, plan: MessagePlan, codec_of: Callable[[ValuePlan], object]) -> None:
        self.source = new_source()
        self._codec_of = codec_of
        self._plan = plan
        self._groups = {group: index for index, group in enumerate(plan.groups)}
        self._members: dict[str, dict[str, object]] = {group: {} for group in plan.groups}
        for name, value in {
            "cls": plan.python,
            "new": object.__new__,
            "bind": object.__setattr__,
            "resolve": _resolve,
            "unpack_fixed": wire.unpack_fixed,
            "BLANK": {field.name: field.blank for field in plan.fields}
            | {"_serialized_on_wire": True, "_unknown_fields": b"", "_group_current": None},
        }.items():
            self.source.name(name, value)
        self._emit()

    def _emit(self) -> None:
        source = self.source
        cases = sorted((case for field in self._plan.fields for case in self._cases(field)), key=lambda case: case[0])
        with source.block(f"def decode({PARAMETERS}):"):
            emit_depth_check(source, "depth < 0")
            source.line("fields = BLANK.copy()", "unknown = None")
            self._emit_locals()
            with source.block("while pos < end:"):
                emit_key(source)
                emit_cases(source, cases, self._emit_unknown)
            emit_end_check(source, "end")
            self._emit_resolution()
            self._emit_result()

    def _emit_locals(self) -> None:
        for field in self._plan.fields:
            if field.presence in (Presence.REPEATED, Presence.MAP):
                self.source.line(f"items{field.number} = None")
            elif field.value.kind == "message" and field.presence is Presence.EXPLICIT:
                self.source.line(f"spans{field.number} = None")
        for index in self._groups.values():
            self.source.line(f"chosen{index} = pending{index} = None")

    def _emit_unknown(self) -> None:
        emit_skip(self.source)
        self._emit_keep_unknown()

    def _emit_keep_unknown(self) -> None:
        with self.source.block("if unknown is None:"):
            self.source.line("unknown = [start, pos]")
        with self.source.block("else:"):
            self.source.line("extend_spans(unknown, start, pos)")

    def _emit_resolution(self) -> None:
        for field in self._plan.fields:
            if field.value.kind == "message" and field.presence is Presence.EXPLICIT:
                number = field.number
                with self.source.block(f"if spans{number} is not None:"):
                    codec = self._codec(field)
                    target = f"fields[{field.name!r}]"
                    self.source.line(f"{target} = resolve({codec}, data, spans{number}, depth - 1, take)")
        for group, index in self._groups.items():
            if self._members[group]:
                with self.source.block(f"if pending{index} is not None:"):
                    self.source.line(f"fields[chosen{index}] = {self._resolve_pending(index)}")

    def _resolve_pending(self, index: int) -> str:
        return f"resolve(codecs{index}[chosen{index}], data, pending{index}, depth - 1, take)"

    def _emit_result(self) -> None:
        chosen = ", ".join(f"{group!r}: chosen{index}" for group, index in self._groups.items())
        self.source.line(f"fields['_group_current'] = {{{chosen}}}")
        with self.source.block("if unknown is not None:"):
            self.source.line("fields['_unknown_fields'] = gather(data, unknown)")
        self.source.line("message = new(cls)", "bind(message, '__dict__', fields)", "return message")

    # --- one field ---------------------------------------------------------------------------------------------------

    def _codec(self, field: FieldPlan) -> str:
        return self.source.name(f"codec{field.number}", self._codec_of(field.value))

    def _cases(self, field: FieldPlan) -> list[Case]:
        """Return the keys under which the field may come, each with what to write for it."""
        tag = field.number << 3 | wire_type(field.value.kind)
        delimited = field.number << 3 | wire.DELIMITED
        if field.presence is Presence.MAP:
            return [(delimited, partial(self._emit_entry, field))]
        if field.presence is Presence.REPEATED:
            one = (tag, partial(self._emit_element, field))
            return [one] if tag == delimited else [one, (delimited, partial(self._emit_packed, field))]
        if field.presence is Presence.ONEOF:
            if field.value.kind == "message":
                # Known before any text is written, so that every member's text knows of it.
                assert field.group is not None
                self._members[field.group][field.name] = self._codec_of(field.value)
            return [(tag, partial(self._emit_member, field))]
        if field.value.kind == "message":
            return [(tag, partial(self._emit_located, field, f"spans{field.number}"))]
        return [(tag, partial(self._emit_scalar, field))]

    def _emit_scalar(self, field: FieldPlan) -> None:
        emit_read(self.source, field.value, field.number, "v", "end")
        self.source.line(f"fields[{field.name!r}] = v")

    def _emit_located(self, field: FieldPlan, spans: str, end: str = "end") -> None:
        emit_stop(self.source, "stop", end)
        self._emit_take(field.value)
        with self.source.block(f"if {spans} is None:"):
            self.source.line(f"{spans} = [pos, stop]")
        with self.source.block("else:"):
            self.source.line(f"{spans} += (pos, stop)")
        self.source.line("pos = stop")

    def _emit_take(self, value: ValuePlan) -> None:
        if value.python is not None and issubclass(value.python, betterproto.Message):
            self.source.line("take()")

    def _emit_member(self, field: FieldPlan) -> None:
        """Choose the field in its group, then read it. The member it replaces must have been valid all the same."""
        assert field.group is not None
        index = self._groups[field.group]
        with self.source.block(f"if chosen{index} != {field.name!r}:"):
            with self.source.block(f"if chosen{index} is not None:"):
                self.source.line(f"fields[chosen{index}] = BLANK[chosen{index}]")
                if self._members[field.group]:
                    self.source.name(f"codecs{index}", self._members[field.group])
                    with self.source.block(f"if pending{index} is not None:"):
                        self.source.line(self._resolve_pending(index), f"pending{index} = None")
            self.source.line(f"chosen{index} = {field.name!r}")
        if field.value.kind == "message":
            self._emit_located(field, f"pending{index}")
        else:
            self._emit_scalar(field)

    def _emit_items(self, field: FieldPlan, empty: str) -> str:
        items = f"items{field.number}"
        with self.source.block(f"if {items} is None:"):
            self.source.line(f"{items} = fields[{field.name!r}] = {empty}")
        return items

    def _emit_element(self, field: FieldPlan) -> None:
        source = self.source
        if field.value.kind == "message":
            emit_stop(source, "stop", "end")
            self._emit_take(field.value)
            source.line(f"v = {self._codec(field)}.decode(data, pos, stop, depth - 1, take)", "pos = stop")
        else:
            emit_read(source, field.value, field.number, "v", "end")
        source.line(f"{self._emit_items(field, '[]')}.append(v)")

    def _emit_packed(self, field: FieldPlan) -> None:
        source, kind = self.source, field.value.kind
        emit_stop(source, "last", "end")
        items = self._emit_items(field, "[]")
        if kind in FIXED:
            source.line(f"{items} += unpack_fixed({FIXED[kind].letter!r}, data, pos, last)", "pos = last")
            return
        finish = finish_of(source, field.value, field.number)
        source.line("packed = data[pos:last]")
        with source.block("if packed.isascii():"):  # every number is a single byte
            source.line(f"{items} += " + (f"[{finish.format('v')} for v in packed]" if finish else "packed"))
            source.line("pos = last")
        with source.block("else:"):
            with source.block("while pos < last:"):
                emit_read(source, field.value, field.number, "v", "last")
                source.line(f"{items}.append(v)")
            emit_end_check(source, "last")

    def _emit_entry(self, field: FieldPlan) -> None:
        """Read a map entry, which is a message with a key (1) and a value (2), and so a level of nesting."""
        source, number, value = self.source, field.number, field.value
        assert field.key is not None
        nested = value.kind == "message"
        emit_stop(source, "last", "end")
        emit_depth_check(source, "depth < 1")
        default = finish_of(source, value, number).format(0) if value.kind == "enum" else zero(value.kind)
        source.line("first = start", "odd = False", f"k = {zero(field.key.kind)}")
        source.line("spans = None" if nested else f"v = {default}")
        cases: list[Case] = [
            (1 << 3 | wire_type(field.key.kind), partial(emit_read, source, field.key, number, "k", "last")),
            (
                2 << 3 | wire_type(value.kind),
                partial(self._emit_located, field, "spans", "last")
                if nested
                else partial(emit_read, source, value, number, "v", "last"),
            ),
        ]
        with source.block("while pos < last:"):
            emit_key(source)
            emit_cases(source, cases, self._emit_odd)
        emit_end_check(source, "last")
        if nested:
            spans = "[pos, pos] if spans is None else spans"
            source.line(f"v = resolve({self._codec(field)}, data, {spans}, depth - 2, take)")
        with source.block("if odd:"):
            source.line("start = first")
            self._emit_keep_unknown()
        with source.block("else:"):
            source.line(f"{self._emit_items(field, '{}')}[k] = v")

    def _emit_odd(self) -> None:
        emit_skip(self.source, "last", "depth - 1")
        self.source.line("odd = True")
