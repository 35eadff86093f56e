"""The stdio service, over a connection in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from supervisor._proto.plugin import StdioData
from supervisor.errors import ConnectionLostError
from supervisor.services.health import HealthService
from supervisor.services.stdio import CHUNK_LIMIT, STDERR, STDOUT, StdioFollower, StdioService, follow
from supervisor.transport.channel import Channel

Connect = Callable[..., Awaitable[Channel]]


async def listening(service: StdioService, channel: Channel) -> tuple[StdioFollower, asyncio.Task[tuple[int, bytes]]]:
    """Return a follower that the service knows of, and its first step."""
    follower = follow(channel)
    first: asyncio.Task[tuple[int, bytes]] = asyncio.ensure_future(anext(follower))
    while not service.write(STDERR, b""):
        await asyncio.sleep(0)
    return follower, first


async def test_chunks_come_in_order_with_their_channel(connect: Connect) -> None:
    """What was written to stdout and to stderr arrives interleaved as it was."""
    service = StdioService()
    follower, first = await listening(service, await connect(service))
    assert service.write(STDOUT, b"one")
    assert service.write(STDERR, b"two")
    assert service.write(STDOUT, b"three")
    service.close()
    assert [await first, *[item async for item in follower]] == [
        (STDOUT, b"one"),
        (STDERR, b"two"),
        (STDOUT, b"three"),
    ]


async def test_small_writes_are_joined_and_large_ones_cut(connect: Connect) -> None:
    """A message has 32 KiB at most, and not one byte when there are more of the same channel."""
    service = StdioService()
    follower, first = await listening(service, await connect(service))
    for _ in range(10):
        service.write(STDOUT, b"ab")
    service.write(STDOUT, b"x" * (2 * CHUNK_LIMIT + 1))
    service.close()
    sizes = [len((await first)[1]), *[len(data) async for _, data in follower]]
    assert max(sizes) <= CHUNK_LIMIT
    assert sum(sizes) == 20 + 2 * CHUNK_LIMIT + 1
    assert len(sizes) <= 4


async def test_nothing_is_taken_while_nobody_listens(connect: Connect) -> None:
    """The writer is told, and can write elsewhere; before, after and at the end."""
    service = StdioService()
    channel = await connect(service)
    assert not service.write(STDOUT, b"unheard")
    follower, first = await listening(service, channel)
    service.write(STDOUT, b"heard")
    assert await first == (STDOUT, b"heard")
    await follower.aclose()
    while service.write(STDERR, b""):
        await asyncio.sleep(0)
    assert not service.write(STDOUT, b"unheard")


async def test_a_writer_that_is_faster_than_the_listener_loses_the_oldest(connect: Connect) -> None:
    """The buffer is bounded, the writer never waits, and what was lost is counted."""
    service = StdioService(limit=1000)
    follower, first = await listening(service, await connect(service))
    for number in range(100):
        service.write(STDOUT, b"%0100d" % number)
    service.close()
    data = (await first)[1] + b"".join([data async for _, data in follower])
    assert data == b"".join(b"%0100d" % number for number in range(90, 100))
    assert service.dropped == 9000


async def test_any_thread_may_write(connect: Connect) -> None:
    """Threads wake the loop; nothing is lost and each thread's bytes stay in order."""
    service = StdioService()
    follower, first = await listening(service, await connect(service))

    def write(letter: bytes) -> None:
        for number in range(1000):
            service.write(STDOUT, letter + b"%04d" % number)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    data = (await first)[1]
    while len(data) < 10_000:
        data += (await anext(follower))[1]
    for thread in threads:
        thread.join()
    words = [data[at : at + 5] for at in range(0, len(data), 5)]
    for letter in (b"a", b"b"):
        assert [word[1:] for word in words if word.startswith(letter)] == [b"%04d" % n for n in range(1000)]
    await follower.aclose()


async def test_the_latest_listener_wins(connect: Connect) -> None:
    """Each byte goes to one listener: the earlier stream ends when another begins."""
    service = StdioService()
    channel = await connect(service)
    _, first = await listening(service, channel)
    later = follow(channel)
    second = asyncio.ensure_future(anext(later))
    with pytest.raises(StopAsyncIteration):
        await first
    service.write(STDOUT, b"for the second")
    assert await second == (STDOUT, b"for the second")
    await later.aclose()


async def test_a_plugin_without_the_service_prints_nothing(connect: Connect) -> None:
    """UNIMPLEMENTED is the end of the stream, and not an error."""
    async with follow(await connect(HealthService())) as follower:
        assert [item async for item in follower] == []


async def test_a_lost_connection_is_an_error(connect: Connect) -> None:
    """The follower is told, and its second step says that it is over."""
    service = StdioService()
    channel = await connect(service)
    follower, first = await listening(service, channel)
    channel.close()
    with pytest.raises(ConnectionLostError):
        await first
    with pytest.raises(StopAsyncIteration):
        await anext(follower)


async def test_chunk_that_could_not_be_sent_is_for_the_next_listener() -> None:
    """It was taken out of the queue, and would be neither here nor there."""

    class Cut:
        """A call that is cut while a message is on its way."""

        async def recv_message(self) -> None:
            """Take the request."""

        async def send_initial_metadata(self) -> None:
            """Send the headers."""

        async def send_message(self, message: StdioData) -> None:
            """Be cut."""
            raise asyncio.CancelledError

    service = StdioService()
    handler = next(iter(service.__mapping__().values())).func
    sending = asyncio.ensure_future(handler(Cut()))
    while not service.write(STDOUT, b"kept"):
        await asyncio.sleep(0)
    await asyncio.wait([sending])

    assert service.drain_nowait() == [(STDOUT, b"kept")]


async def test_a_cancelled_step_closes_the_call(connect: Connect) -> None:
    """Cancelling the reader tells the plugin that nobody listens."""
    service = StdioService()
    _, first = await listening(service, await connect(service))
    first.cancel()
    await asyncio.wait([first])
    while service.write(STDOUT, b"unheard"):
        await asyncio.sleep(0)


async def test_what_was_lost_is_told_once_the_listener_has_caught_up(connect: Connect) -> None:
    """How many bytes, since it was told last."""
    told: list[int] = []
    service = StdioService(limit=1000, on_dropped=told.append)
    follower, first = await listening(service, await connect(service))
    for _ in range(2):
        for _ in range(100):
            service.write(STDOUT, b"x" * 100)
        data = (await first)[1] if not first.done() else (await anext(follower))[1]
        assert len(data) == 1000
        service.write(STDOUT, b"")  # another turn of the sender, which finds nothing more to send
        while len(told) < 1:
            await asyncio.sleep(0)
    while sum(told) < 18_000:
        await asyncio.sleep(0)
    assert told == [9000, 9000]
    await follower.aclose()
