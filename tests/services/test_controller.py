"""The controller service, over a connection in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from supervisor._proto.plugin import Empty
from supervisor.services.controller import ControllerService, request_shutdown
from supervisor.services.health import HealthService
from supervisor.transport.channel import Channel

Connect = Callable[..., Awaitable[Channel]]


class ScriptedController:
    """A controller that does what the test says."""

    def __init__(self, behave: Callable[[Any], Awaitable[None]]) -> None:
        self._behave = behave

    def __mapping__(self) -> dict[str, Handler]:
        """Return the route of Shutdown."""
        return {"/plugin.GRPCController/Shutdown": Handler(self._behave, Cardinality.UNARY_UNARY, Empty, Empty)}


async def test_the_answer_comes_before_the_shutdown(connect: Connect) -> None:
    """The callback is told once, and even if it closes the connection the host has its answer."""
    told: list[str] = []

    def on_shutdown() -> None:
        told.append("shutdown")
        # What Go's plugins do: stop the server inside the handler.
        channel.close()

    channel = await connect(ControllerService(on_shutdown))
    assert await request_shutdown(channel, timeout=5)
    assert told == ["shutdown"]


@pytest.mark.parametrize(
    ("status", "taken"),
    [(Status.UNAVAILABLE, True), (Status.CANCELLED, True), (Status.UNIMPLEMENTED, False), (Status.INTERNAL, False)],
)
async def test_a_plugin_that_goes_away_while_it_answers_has_taken_the_request(
    connect: Connect, status: Status, taken: bool
) -> None:
    """Go's plugins answer UNAVAILABLE as they exit with status 0; a plugin that refuses does not."""

    async def answer(_: Any) -> None:
        raise GRPCError(status, "bye")

    assert await request_shutdown(await connect(ScriptedController(answer)), timeout=5) is taken


async def test_a_connection_that_ends_is_as_good_as_an_answer(connect: Connect) -> None:
    """The plugin was faster than its answer."""

    async def vanish(_: Any) -> None:
        channel.close()
        await asyncio.Event().wait()

    channel = await connect(ScriptedController(vanish))
    assert await request_shutdown(channel, timeout=5)
    assert await request_shutdown(channel, timeout=5)


async def test_no_answer_in_time_is_a_no(connect: Connect) -> None:
    """The request has a deadline of its own: the next rung of the ladder is waiting."""

    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    assert not await request_shutdown(await connect(ScriptedController(hang)), timeout=0.05)


async def test_a_plugin_without_the_service_is_a_no(connect: Connect) -> None:
    """An old plugin ends by a signal."""
    assert not await request_shutdown(await connect(HealthService()), timeout=5)
