"""The codec that grpclib uses for the messages of every call."""

from __future__ import annotations

from typing import Any

import betterproto
from grpclib.encoding.base import CodecBase

from supervisor.errors import EncodeError, MessageTooLargeError
from supervisor.transport.codec.betterproto_messages import (
    MAX_DEPTH,
    MAX_MESSAGES,
    READ_FAULTS,
    WRITE_FAULTS,
    explain_read,
    explain_write,
)
from supervisor.transport.codec.compiled import MessageFunctions, functions_of
from supervisor.transport.codec.foreign import decode_foreign, encode_foreign
from supervisor.transport.codec.pieces import LARGE, Pieces, join_small

__all__ = ["MAX_SIZE", "MessageCodec"]

MAX_SIZE = 64 * 2**20
"""How many bytes one message may have."""


class MessageCodec(CodecBase):
    """Encodes and decodes the messages of calls: betterproto's by compiled plans, any other by its own methods.

    The limits hold for betterproto's messages; `max_size` holds for all. Safe to share between channels, servers and
    threads.

    Args:
        max_size: how many bytes a message may have, in either direction.
        max_depth: how deep messages may nest, in either direction.
        max_messages: how many sub-messages a received message may hold.
    """

    __content_subtype__ = "proto"

    def __init__(
        self, max_size: int = MAX_SIZE, max_depth: int = MAX_DEPTH, *, max_messages: int = MAX_MESSAGES
    ) -> None:
        self._max_size = max_size
        self._max_depth = max_depth
        self._max_messages = max_messages
        self._notable = min(max_size + 1, LARGE)  # bytes from which something is to be done about a message
        self._known: dict[type, MessageFunctions] = {}

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Return the message's bytes; raises `EncodeError` or `MessageTooLargeError`."""
        return bytes(self.encode_pieces(message, message_type))

    def encode_pieces(self, message: Any, message_type: Any) -> bytes | Pieces:
        """Return the message's bytes, which of a large message may be in pieces; raises as `encode` does."""
        cls = type(message)
        if cls is not message_type and not isinstance(message, message_type):
            raise EncodeError(
                f"expected a {message_type.__name__}, not a {cls.__name__}",
                message_type=message_type.__name__,
                value_type=cls.__name__,
            )
        functions = self._known.get(cls) or self._functions(cls)
        if functions is None:
            data: bytes | Pieces = encode_foreign(message)
        else:
            try:
                if functions.large:
                    data = functions.encode(message, self._max_depth, join_small)
                else:
                    data = functions.encode(message, self._max_depth)
            except WRITE_FAULTS as error:
                raise explain_write(cls, error) from error
        if len(data) >= self._notable:
            if len(data) > self._max_size:
                raise self._too_large(len(data), message_type)
            if functions is not None:
                functions.large = True  # the next one of the class probably is
        return data

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Return the message; raises `DecodeError` or `MessageTooLargeError`."""
        size = len(data)
        if size > self._max_size:
            raise self._too_large(size, message_type)
        functions = self._known.get(message_type) or self._functions(message_type)
        if functions is None:
            return decode_foreign(message_type, data)
        if type(data) is not bytes:
            data = bytes(memoryview(data))
        take = None if functions.flat else iter(range(self._max_messages)).__next__
        try:
            return functions.decode(data, 0, size, self._max_depth, take)
        except READ_FAULTS as error:
            raise explain_read(message_type, error, self._max_messages) from error

    def _functions(self, message_type: type) -> MessageFunctions | None:
        """Return what is compiled for a class; None when it is not betterproto's."""
        if not issubclass(message_type, betterproto.Message):
            return None
        found = self._known[message_type] = functions_of(message_type)
        return found

    def _too_large(self, size: int, message_type: type) -> MessageTooLargeError:
        return MessageTooLargeError(
            f"a {message_type.__name__} of {size} bytes is larger than the limit of {self._max_size}",
            size=size,
            limit=self._max_size,
        )
