"""The pieces of text that every decoder is made of: field keys, lengths, scalars, and the choice between fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import betterproto

from supervisor.transport.codec import wire
from supervisor.transport.codec.plan import ValuePlan
from supervisor.transport.codec.scalars import FIXED, VARINTS, wire_type, zero
from supervisor.transport.codec.source import Source

__all__ = [
    "PARAMETERS",
    "Case",
    "emit_cases",
    "emit_depth_check",
    "emit_end_check",
    "emit_key",
    "emit_read",
    "emit_skip",
    "emit_stop",
    "emit_wrapper_decoder",
    "finish_of",
    "new_source",
]

Case: TypeAlias = tuple[int, Callable[[], None]]
"""A field key, and what writes the text for it."""

PARAMETERS: Final = "data, pos, end, depth, take"

_CHAIN: Final = 8  # more cases than this are split in two before they are compared one by one


class _Members(dict[int, betterproto.Enum]):
    """The members of an enum by number; an unknown number makes a nameless member, because protobuf enums are open."""

    def __init__(self, cls: type[betterproto.Enum]) -> None:
        super().__init__({int(member): member for member in cls})
        self._cls = cls

    def __missing__(self, number: int) -> betterproto.Enum:
        return self._cls.try_value(number)


def new_source() -> Source:
    """Start a text whose scope has what every decoder needs."""
    source = Source()
    for name in (
        "MalformedError",
        "OVERRUN",
        "TOO_DEEP",
        "extend_spans",
        "gather",
        "read_key",
        "read_length",
        "skip_field",
    ):
        source.name(name, getattr(wire, name))
    return source


def emit_depth_check(source: Source, condition: str) -> None:
    """Refuse to go deeper when `condition` holds."""
    with source.block(f"if {condition}:"):
        source.line("raise MalformedError(TOO_DEEP)")


def emit_end_check(source: Source, end: str) -> None:
    """Refuse a last field that ran past `end`."""
    with source.block(f"if pos != {end}:"):
        source.line("raise MalformedError(OVERRUN)")


def emit_key(source: Source) -> None:
    """Read a field key into `tag`, and remember where it began in `start`."""
    source.line("start = pos", "tag = data[pos]", "pos += 1")
    with source.block("if tag > 127:"):
        source.line("tag, pos = read_key(data, start)")


def emit_skip(source: Source, end: str = "end", depth: str = "depth") -> None:
    """Step over the field that `tag` begins."""
    source.line(f"pos = skip_field(data, pos, {end}, tag, {depth})")


def emit_stop(source: Source, stop: str, end: str) -> None:
    """Read a length and set `stop` to the position it leads to."""
    source.line("size = data[pos]", "pos += 1")
    with source.block("if size > 127:"):
        source.line("size, pos = read_length(data, pos - 1)")
    source.line(f"{stop} = pos + size")
    with source.block(f"if {stop} > {end}:"):
        source.line("raise MalformedError(OVERRUN)")


def emit_cases(source: Source, cases: Sequence[Case], otherwise: Callable[[], None]) -> None:
    """Compare `tag` with each case; many cases are halved first, so that a large message stays fast."""
    if len(cases) > _CHAIN:
        middle = len(cases) // 2
        with source.block(f"if tag < {cases[middle][0]}:"):
            emit_cases(source, cases[:middle], otherwise)
        with source.block("else:"):
            emit_cases(source, cases[middle:], otherwise)
        return
    word = "if"
    for tag, emit in cases:
        with source.block(f"{word} tag == {tag}:"):
            emit()
        word = "elif"
    if cases:
        with source.block("else:"):
            otherwise()
    else:
        otherwise()


def emit_read(source: Source, value: ValuePlan, number: int, target: str, end: str) -> None:
    """Read one scalar into `target`."""
    kind = value.kind
    if kind in VARINTS:
        source.line(f"{target} = data[pos]", "pos += 1")
        with source.block(f"if {target} > 127:"):
            read = source.name(f"read_{kind}", VARINTS[kind].read)
            source.line(f"{target}, pos = {read}(data, pos - 1)")
        finish = finish_of(source, value, number)
        if finish:
            source.line(f"{target} = {finish.format(target)}")
    elif kind in FIXED:
        unpack = source.name(f"unpack_{kind}", FIXED[kind].layout.unpack_from)
        source.line(f"{target}, = {unpack}(data, pos)", f"pos += {FIXED[kind].layout.size}")
    else:
        emit_stop(source, "stop", end)
        source.line(f"{target} = data[pos:stop]" + (".decode()" if kind == "string" else ""), "pos = stop")


def finish_of(source: Source, value: ValuePlan, number: int) -> str:
    """Return an expression that turns the number read, `{}`, into the value; an empty one if it is the value."""
    if value.kind != "enum":
        return VARINTS[value.kind].finish
    assert value.python is not None
    return source.name(f"members{number}", _Members(value.python)) + "[{}]"


def emit_wrapper_decoder(wrapped: str) -> Source:
    """Write the decoder of a wrapper message such as `google.protobuf.StringValue`, which gives the wrapped value."""
    source = new_source()
    with source.block(f"def decode({PARAMETERS}):"):
        emit_depth_check(source, "depth < 0")
        source.line(f"v = {zero(wrapped)}")
        value = ValuePlan(kind=wrapped)
        tag = 1 << 3 | wire_type(wrapped)
        with source.block("while pos < end:"):
            emit_key(source)
            emit_cases(source, [(tag, partial(emit_read, source, value, 1, "v", "end"))], lambda: emit_skip(source))
        emit_end_check(source, "end")
        source.line("return v")
    return source
