"""What a server serves, whichever engine does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grpclib.const import Handler as Method
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchServerEvents

from supervisor.errors import ConfigurationError

__all__ = ["OnError", "Service", "routes_of"]

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


def routes_of(services: Iterable[Any], *, plugin: str | None = None, key: str | None = None) -> dict[str, Method]:
    """Return every method of the servicers by its route.

    Args:
        services: the servicers.
        plugin: the plugin that they are for, to be named in an error.
        key: the setting that they come from, to be named in an error.

    Raises:
        ConfigurationError: one of them has none.
    """
    routes: dict[str, Method] = {}
    for service in services:
        if isinstance(service, type) and hasattr(service, "__mapping__"):
            name = service.__name__
            raise ConfigurationError(
                f"{name} is not a servicer but a class of them", plugin=plugin, key=key, hint=f"make one: {name}()"
            )
        if not hasattr(service, "__mapping__"):
            raise ConfigurationError(
                f"{service!r} is not a servicer",
                plugin=plugin,
                key=key,
                hint="it needs __mapping__, as generated ones have",
            )
        routes.update(service.__mapping__())
    return routes
