"""The health service, over a connection in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from supervisor._proto.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from supervisor.errors import ConnectionLostError, DeadlineExceededError, TransportError
from supervisor.services.controller import ControllerService
from supervisor.services.health import PLUGIN_SERVICE, HealthService, ServingStatus, check
from supervisor.transport.channel import Channel

Connect = Callable[..., Awaitable[Channel]]


class ScriptedHealth:
    """A health service that does what the test says."""

    def __init__(self, behave: Callable[[Any], Awaitable[None]]) -> None:
        self._behave = behave

    def __mapping__(self) -> dict[str, Handler]:
        """Return the route of Check."""
        route = "/grpc.health.v1.Health/Check"
        return {route: Handler(self._check, Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse)}

    async def _check(self, stream: Any) -> None:
        await self._behave(stream)


@pytest.mark.parametrize("name", ["", PLUGIN_SERVICE])
async def test_a_new_service_is_serving(connect: Connect, name: str) -> None:
    """go-plugin asks for `plugin`, other clients for the empty name."""
    assert await check(await connect(HealthService()), name, timeout=5) is ServingStatus.SERVING


async def test_what_was_set_is_what_is_told(connect: Connect) -> None:
    """Each name has its own status, and a name becomes known when it is set."""
    service = HealthService()
    channel = await connect(service)
    assert await check(channel, "store", timeout=5) is ServingStatus.SERVICE_UNKNOWN
    service.set_serving("store", serving=False)
    assert await check(channel, "store", timeout=5) is ServingStatus.NOT_SERVING
    service.set_serving("store", serving=True)
    assert await check(channel, "store", timeout=5) is ServingStatus.SERVING
    assert await check(channel, timeout=5) is ServingStatus.SERVING


async def test_list_names_them_all(connect: Connect) -> None:
    """List gives every known name with its status."""
    service = HealthService()
    service.set_serving("store", serving=False)
    channel = await connect(service)
    stream: Any
    async with channel.request(
        "/grpc.health.v1.Health/List", Cardinality.UNARY_UNARY, HealthListRequest, HealthListResponse
    ) as stream:
        await stream.send_message(HealthListRequest(), end=True)
        reply: HealthListResponse = await stream.recv_message()
    assert {name: int(response.status) for name, response in reply.statuses.items()} == {
        "": 1,
        "plugin": 1,
        "store": 2,
    }


async def test_watch_tells_each_change_once(connect: Connect) -> None:
    """An unknown name is SERVICE_UNKNOWN until it is set; setting the same status again says nothing."""
    service = HealthService()
    channel = await connect(service)
    stream: Any
    async with channel.request(
        "/grpc.health.v1.Health/Watch", Cardinality.UNARY_STREAM, HealthCheckRequest, HealthCheckResponse
    ) as stream:
        await stream.send_message(HealthCheckRequest(service="store"), end=True)
        told = [int((await stream.recv_message()).status)]
        for serving in (False, False, True):
            service.set_serving("store", serving=serving)
            if told[-1] != (1 if serving else 2):
                told.append(int((await stream.recv_message()).status))
        await stream.cancel()
    assert told == [3, 2, 1]


async def test_closing_ends_those_who_watch(connect: Connect) -> None:
    """A watcher hears the last change and then the end, so that a stop need not wait for it."""
    service = HealthService()
    channel = await connect(service)
    stream: Any
    async with channel.request(
        "/grpc.health.v1.Health/Watch", Cardinality.UNARY_STREAM, HealthCheckRequest, HealthCheckResponse
    ) as stream:
        await stream.send_message(HealthCheckRequest(service=PLUGIN_SERVICE), end=True)
        assert int((await stream.recv_message()).status) == 1
        service.set_serving(PLUGIN_SERVICE, serving=False)
        service.close()
        assert int((await stream.recv_message()).status) == 2
        assert await stream.recv_message() is None


async def test_a_plugin_without_the_service_says_nothing_of_itself(connect: Connect) -> None:
    """UNIMPLEMENTED is an answer, and not a failure."""
    channel = await connect(ControllerService(lambda: None))
    assert await check(channel, timeout=5) is ServingStatus.UNIMPLEMENTED


async def test_an_answer_that_does_not_come_is_a_deadline(connect: Connect) -> None:
    """The check has a deadline of its own."""

    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    channel = await connect(ScriptedHealth(hang))
    with pytest.raises(DeadlineExceededError):
        await check(channel, timeout=0.05)


async def test_an_error_status_is_a_failed_call(connect: Connect) -> None:
    """A plugin that answers the check with an error is told apart from one that is unwilling."""

    async def refuse(_: Any) -> None:
        raise GRPCError(Status.INTERNAL, "broken")

    channel = await connect(ScriptedHealth(refuse))
    with pytest.raises(TransportError, match="INTERNAL: broken"):
        await check(channel, timeout=5)


async def test_a_status_of_a_later_version_is_unknown(connect: Connect) -> None:
    """proto3's enums are open: a number that this version does not know is no error."""

    async def answer(stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(HealthCheckResponse(status=77))  # type: ignore[arg-type]  # not one of the enum's

    channel = await connect(ScriptedHealth(answer))
    assert await check(channel, timeout=5) is ServingStatus.UNKNOWN


async def test_a_lost_connection_is_told(connect: Connect) -> None:
    """A check on a closed channel fails at once."""
    channel = await connect(HealthService())
    channel.close()
    with pytest.raises(ConnectionLostError):
        await check(channel, timeout=5)
