"""The codec that grpclib uses for the messages of every call."""

from __future__ import annotations

from functools import cache
from typing import Any

import betterproto
from grpclib.encoding.base import CodecBase

from supervisor.errors import EncodeError, MessageTooLargeError
from supervisor.transport.codec.betterproto_messages import MAX_DEPTH, MAX_MESSAGES, decode, encode
from supervisor.transport.codec.foreign import decode_foreign, encode_foreign

__all__ = ["MAX_SIZE", "MessageCodec"]

MAX_SIZE = 64 * 2**20
"""How many bytes one message may have."""


@cache
def _is_betterproto(message_type: type) -> bool:
    """Ask the class, once: asking a message would go through betterproto's attribute access, which costs more than a reply."""
    return issubclass(message_type, betterproto.Message)


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

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Return the message's bytes; raises `EncodeError` or `MessageTooLargeError`."""
        if type(message) is not message_type and not isinstance(message, message_type):
            raise EncodeError(
                f"expected a {message_type.__name__}, not a {type(message).__name__}",
                message_type=message_type.__name__,
                value_type=type(message).__name__,
            )
        ours = _is_betterproto(message_type)
        data = encode(message, max_depth=self._max_depth) if ours else encode_foreign(message)
        self._check_size(len(data), message_type)
        return data

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Return the message; raises `DecodeError` or `MessageTooLargeError`."""
        self._check_size(len(data), message_type)
        if _is_betterproto(message_type):
            return decode(message_type, data, max_depth=self._max_depth, max_messages=self._max_messages)
        return decode_foreign(message_type, data)

    def _check_size(self, size: int, message_type: Any) -> None:
        if size > self._max_size:
            raise MessageTooLargeError(
                f"a {message_type.__name__} of {size} bytes is larger than the limit of {self._max_size}",
                size=size,
                limit=self._max_size,
            )
