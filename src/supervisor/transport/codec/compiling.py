"""Compiling the codec of a message class: from what betterproto knows of it to two functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import betterproto

from supervisor.transport.codec.compiled import MessageFunctions, functions_of
from supervisor.transport.codec.constructors import compile_construction
from supervisor.transport.codec.decode_pieces import emit_wrapper_decoder
from supervisor.transport.codec.emit_decode import emit_decoder
from supervisor.transport.codec.emit_encode import emit_encoder, emit_wrapper_encoder
from supervisor.transport.codec.plan import MessagePlan, ValuePlan, read_plan

if TYPE_CHECKING:
    from supervisor.transport.codec.wellknown import ValueCodec

__all__ = ["compile_decoder", "compile_encoder"]


def compile_decoder(cls: type[betterproto.Message]) -> tuple[Callable[..., Any], bool]:
    """Return what decodes the messages of a class, and whether they have no sub-messages.

    Raises:
        UnsupportedFieldError: a field's type cannot be told.
    """
    plan, flat = _prepare(cls)
    return emit_decoder(plan, _codec_of).compile("decode", f"decoder of {_title(cls)}"), flat


def compile_encoder(cls: type[betterproto.Message]) -> tuple[Callable[..., bytes], bool]:
    """Return what encodes the messages of a class, and whether they have no sub-messages; raises as `compile_decoder`."""
    plan, flat = _prepare(cls)
    return emit_encoder(plan, _codec_of).compile("encode", f"encoder of {_title(cls)}"), flat


def _prepare(cls: type[betterproto.Message]) -> tuple[MessagePlan, bool]:
    plan = read_plan(cls)
    compile_construction(plan)  # a class whose messages are sent is made as often
    return plan, all(field.value.kind != "message" for field in plan.fields)


def _title(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def _wrapper_codec(wrapped: str) -> ValueCodec:
    from supervisor.transport.codec.wellknown import ValueCodec  # noqa: PLC0415 - loaded by classes that need it

    return ValueCodec(
        decode=emit_wrapper_decoder(wrapped).compile("decode", f"decoder of the wrapper of {wrapped}"),
        encode=emit_wrapper_encoder(wrapped).compile("encode", f"encoder of the wrapper of {wrapped}"),
    )


def _codec_of(value: ValuePlan) -> MessageFunctions | ValueCodec:
    """Return what reads and writes a value that is a message on the wire."""
    if value.wraps is not None:
        return _wrapper_codec(value.wraps)
    if value.python is datetime or value.python is timedelta:
        from supervisor.transport.codec.wellknown import DURATION, TIMESTAMP  # noqa: PLC0415 - as above

        return TIMESTAMP if value.python is datetime else DURATION
    assert value.python is not None
    return functions_of(value.python)
