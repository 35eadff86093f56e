"""`grpc.health.v1.Health`: whether a plugin is alive and willing, as go-plugin asks it under the name `plugin`."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from supervisor.errors import TransportError
from supervisor.services.flat_messages import Empty, HealthCheckRequest, HealthCheckResponse, RawMessage

if TYPE_CHECKING:
    from grpclib.client import Channel
    from grpclib.server import Stream

__all__ = ["PLUGIN_SERVICE", "HealthService", "ServingStatus", "check"]

PLUGIN_SERVICE = "plugin"
"""The name under which go-plugin asks for the health of the whole plugin."""

_CHECK = "/grpc.health.v1.Health/Check"
_LIST = "/grpc.health.v1.Health/List"
_WATCH = "/grpc.health.v1.Health/Watch"


class ServingStatus(enum.Enum):
    """What a plugin says of a service; the last one is what it means when it does not say."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3
    UNIMPLEMENTED = -1
    """The plugin has no health service: nothing is known but that it answers."""


class HealthService:
    """The plugin's side. Knows `""` and `plugin`, both serving, until told otherwise. To be used from one loop."""

    def __init__(self) -> None:
        self._statuses = {"": ServingStatus.SERVING, PLUGIN_SERVICE: ServingStatus.SERVING}
        self._changed = asyncio.Event()
        self._closed = False

    def set_serving(self, name: str, serving: bool) -> None:
        """Say whether the service `name` is willing to take calls; a new name becomes known."""
        self._statuses[name] = ServingStatus.SERVING if serving else ServingStatus.NOT_SERVING
        self._tell_watchers()

    def close(self) -> None:
        """End the calls that watch, after what they have not been told yet."""
        self._closed = True
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        # Each waiter holds the event that it saw, so that none misses a change and none takes another's.
        self._changed.set()
        self._changed = asyncio.Event()

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        unary, stream = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        return {
            _CHECK: Handler(self._check, unary, HealthCheckRequest, HealthCheckResponse),
            _LIST: Handler(self._list, unary, Empty, RawMessage),
            _WATCH: Handler(self._watch, stream, HealthCheckRequest, HealthCheckResponse),
        }

    async def _check(self, stream: Stream[HealthCheckRequest, HealthCheckResponse]) -> None:
        request = await stream.recv_message()
        status = self._statuses.get(request.service if request else "")
        if status is None:
            raise GRPCError(Status.NOT_FOUND, "unknown service")
        await stream.send_message(_response(status))

    async def _list(self, stream: Stream[Empty, RawMessage]) -> None:
        from supervisor._proto.grpc.health import v1  # noqa: PLC0415  # no host asks for it, and it costs 2 ms
        from supervisor.transport.codec import encode  # noqa: PLC0415

        await stream.recv_message()
        said = {name: v1.HealthCheckResponseServingStatus(status.value) for name, status in self._statuses.items()}
        responses = {name: v1.HealthCheckResponse(status=status) for name, status in said.items()}
        await stream.send_message(RawMessage(encode(v1.HealthListResponse(statuses=responses))))

    async def _watch(self, stream: Stream[HealthCheckRequest, HealthCheckResponse]) -> None:
        """Send the status now and after each change, until the client goes away or the service is closed."""
        request = await stream.recv_message()
        name = request.service if request else ""
        sent: ServingStatus | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(name, ServingStatus.SERVICE_UNKNOWN)
            if status is not sent:
                await stream.send_message(_response(status))
                sent = status
            if self._closed:
                return
            await changed.wait()


def _response(status: ServingStatus) -> HealthCheckResponse:
    return HealthCheckResponse(status.value)


async def check(channel: Channel, service: str = PLUGIN_SERVICE, *, timeout: float) -> ServingStatus:
    """Ask for the status of `service`.

    A plugin that does not know the name gives SERVICE_UNKNOWN and one without the service UNIMPLEMENTED: an answer all
    the same.

    Raises:
        DeadlineExceededError: no answer within `timeout` seconds.
        TransportError: the call failed, or was answered with an error.
    """
    try:
        response = await _call(channel, HealthCheckRequest(service=service), timeout)
    except GRPCError as error:
        match error.status:
            case Status.NOT_FOUND:
                return ServingStatus.SERVICE_UNKNOWN
            case Status.UNIMPLEMENTED:
                return ServingStatus.UNIMPLEMENTED
        raise TransportError(
            f"the health check was answered with {error.status.name}: {error.message or 'no message'}"
        ) from error
    try:
        return ServingStatus(max(response.status, 0))
    except ValueError:
        return ServingStatus.UNKNOWN


async def _call(channel: Channel, request: HealthCheckRequest, timeout: float) -> HealthCheckResponse:
    stream: Any  # grpclib's stream is generic in ways that say nothing here
    async with channel.request(
        _CHECK, Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse, timeout=timeout
    ) as stream:
        await stream.send_message(request, end=True)
        response: HealthCheckResponse | None = await stream.recv_message()
    if response is None:
        raise TransportError("the health check was answered without a message")
    return response
