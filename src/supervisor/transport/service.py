"""What a server serves, whichever engine does it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from grpclib.const import Handler as Method
from grpclib.encoding.base import CodecBase

from supervisor.errors import ConfigurationError

if TYPE_CHECKING:
    from grpclib.encoding.base import StatusDetailsCodecBase
    from grpclib.events import _DispatchServerEvents

__all__ = ["OnError", "Service", "routes_of"]

OnError = Callable[[str, BaseException], None]
"""Told the route and the exception when a handler raises something that is not a status."""


class Service:
    """What serves the calls of one server.

    Attributes:
        methods: by route.
        codec: how messages become bytes.
        message_size: bytes of one message.
        on_error: told when a handler raises something that is not a status.
        listeners: who listens to grpclib's events, by event.
    """

    def __init__(
        self,
        *,
        methods: Mapping[str, Method],
        codec: CodecBase,
        message_size: int,
        on_error: OnError,
    ) -> None:
        self.methods = methods
        self.codec = codec
        self.message_size = message_size
        self.on_error = on_error
        self.listeners: defaultdict[type, list[Callable[..., Any]]] = defaultdict(list)

    @cached_property
    def details_codec(self) -> StatusDetailsCodecBase:
        """How details of a status become bytes; loaded when an error has some."""
        from supervisor.transport.engine.details import StatusDetailsCodec  # noqa: PLC0415 - its messages are classes

        return StatusDetailsCodec()

    @cached_property
    def dispatch(self) -> _DispatchServerEvents:
        """What tells the listeners; loaded when there is one, since it costs a plugin 6 ms."""
        from grpclib.events import _DispatchServerEvents  # noqa: PLC0415 - see above

        dispatch = _DispatchServerEvents()
        dispatch._listeners = self.listeners  # noqa: SLF001 - grpclib's
        return dispatch


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
