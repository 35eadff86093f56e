"""What a server serves, whichever engine does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from grpclib.const import Handler as Method
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchServerEvents

__all__ = ["OnError", "Service"]

OnError = Callable[[str, BaseException], None]
"""Told the route and the exception when a handler raises something that is not a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What serves the calls of one server.

    Attributes:
        methods: by route.
        codec: how messages become bytes.
        details_codec: how details of a status become bytes.
        dispatch: tells listeners of events.
        message_size: bytes of one message.
        on_error: told when a handler raises something that is not a status.
    """

    methods: Mapping[str, Method]
    codec: CodecBase
    details_codec: StatusDetailsCodecBase
    dispatch: _DispatchServerEvents
    message_size: int
    on_error: OnError
