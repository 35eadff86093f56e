"""Message classes and their compiled codecs.

A codec is compiled on the first use of its half, so that a large schema costs only what is used, and classes may refer
to each other in circles.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import betterproto

from supervisor.transport.codec.constructors import compile_construction
from supervisor.transport.codec.decode_pieces import emit_wrapper_decoder
from supervisor.transport.codec.emit_decode import emit_decoder
from supervisor.transport.codec.emit_encode import emit_encoder, emit_wrapper_encoder
from supervisor.transport.codec.plan import MessagePlan, ValuePlan, read_plan
from supervisor.transport.codec.wellknown import DURATION, TIMESTAMP, ValueCodec

__all__ = ["MessageFunctions", "functions_of"]


def _title(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class MessageFunctions:
    """The two functions of one message class; each replaces itself by its compiled form when it is first called.

    Attributes:
        decode: `(data, pos, end, depth, take) -> message`.
        encode: `(message, depth) -> bytes`; with a third argument, what that makes of the bytes' pieces.
        flat: whether the class is known to have no sub-messages, so that `take` is not called.
        large: whether messages of the class have been large.
    """

    __slots__ = ("_cls", "decode", "encode", "flat", "large")

    def __init__(self, cls: type[betterproto.Message]) -> None:
        self._cls = cls
        self.flat = False
        self.large = False
        self.decode: Callable[..., Any] = self._decode_first
        self.encode: Callable[..., bytes] = self._encode_first

    def _decode_first(self, *arguments: Any) -> Any:
        source = emit_decoder(self._read_plan(), _codec_of)
        self.decode = source.compile("decode", f"decoder of {_title(self._cls)}")
        return self.decode(*arguments)

    def _encode_first(self, *arguments: Any) -> bytes:
        source = emit_encoder(self._read_plan(), _codec_of)
        self.encode = source.compile("encode", f"encoder of {_title(self._cls)}")
        encoded: bytes = self.encode(*arguments)
        return encoded

    def _read_plan(self) -> MessagePlan:
        plan = read_plan(self._cls)
        self.flat = all(field.value.kind != "message" for field in plan.fields)
        compile_construction(plan)  # a class whose messages are sent is made as often
        return plan


@cache
def functions_of(cls: type[betterproto.Message]) -> MessageFunctions:
    """Return the functions of a class. They live as long as the process, as message classes do."""
    return MessageFunctions(cls)


@cache
def _wrapper_codec(wrapped: str) -> ValueCodec:
    return ValueCodec(
        decode=emit_wrapper_decoder(wrapped).compile("decode", f"decoder of the wrapper of {wrapped}"),
        encode=emit_wrapper_encoder(wrapped).compile("encode", f"encoder of the wrapper of {wrapped}"),
    )


def _codec_of(value: ValuePlan) -> MessageFunctions | ValueCodec:
    """Return what reads and writes a value that is a message on the wire."""
    if value.wraps is not None:
        return _wrapper_codec(value.wraps)
    if value.python is datetime:
        return TIMESTAMP
    if value.python is timedelta:
        return DURATION
    assert value.python is not None
    return functions_of(value.python)
