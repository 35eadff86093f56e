"""Message classes and their compiled codecs.

A codec is compiled on the first use of its half, so that a large schema costs only what is used, and classes may refer
to each other in circles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import betterproto

__all__ = ["MessageFunctions", "functions_of"]


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
        from supervisor.transport.codec.compiling import compile_decoder  # noqa: PLC0415 - 3 ms; `sdk/plugin.py` has a moment for it

        self.decode, self.flat = compile_decoder(self._cls)
        return self.decode(*arguments)

    def _encode_first(self, *arguments: Any) -> bytes:
        from supervisor.transport.codec.compiling import compile_encoder  # noqa: PLC0415 - as above

        self.encode, self.flat = compile_encoder(self._cls)
        encoded: bytes = self.encode(*arguments)
        return encoded


@cache
def functions_of(cls: type[betterproto.Message]) -> MessageFunctions:
    """Return the functions of a class. They live as long as the process, as message classes do."""
    return MessageFunctions(cls)
