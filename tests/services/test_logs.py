"""The log stream, over a connection in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler

from supervisor._proto.supervisor.logs.v1 import FollowRequest
from supervisor.errors import ConnectionLostError, DecodeError
from supervisor.services.health import HealthService, check
from supervisor.services.log_encoding import RawBatch, encode_record
from supervisor.services.logs import BATCH_BYTES, BATCH_RECORDS, LogBuffer, LogService, follow
from supervisor.transport.channel import Channel

Connect = Callable[..., Awaitable[Channel]]


def record(number: int) -> bytes:
    """Return an encoded record whose event is its number."""
    return encode_record(20, str(number))


class Plugin:
    """A log service and what it was told."""

    def __init__(self, **bounds: int) -> None:
        self.buffer = LogBuffer(**bounds)
        self.levels: list[int] = []
        self.unfollowed = asyncio.Event()
        self.service = LogService(self.buffer, on_level=self.levels.append, on_unfollowed=self.unfollowed.set)

    async def followed(self) -> None:
        """Wait until records are taken."""
        while not self.service.followed:
            await asyncio.sleep(0)


# --- the buffer --------------------------------------------------------------------------------------------------------


def test_a_buffer_takes_records_while_it_is_open() -> None:
    """Closed it takes none; it closes only when nothing is left."""
    buffer = LogBuffer()
    assert not buffer.offer(record(0))
    buffer.open(None)
    assert buffer.offer(record(1))
    assert not buffer.close_if_empty()
    assert buffer.take() == ([record(1)], 0)
    assert buffer.close_if_empty()
    assert not buffer.offer(record(2))


def test_a_full_buffer_drops_the_oldest_by_number_and_by_size() -> None:
    """The newest explain the end; each one that is lost is counted."""
    buffer = LogBuffer(max_records=3)
    buffer.open(None)
    for number in range(5):
        buffer.offer(record(number))
    assert buffer.take() == ([record(2), record(3), record(4)], 2)

    buffer = LogBuffer(max_bytes=3 * len(record(0)))
    buffer.open(None)
    for number in range(5):
        buffer.offer(record(number))
    assert buffer.take() == ([record(2), record(3), record(4)], 2)


def test_a_batch_is_bounded_by_number_and_by_size() -> None:
    """A record that is larger than a batch goes alone."""
    buffer = LogBuffer()
    buffer.open(None)
    for number in range(BATCH_RECORDS + 1):
        buffer.offer(record(number))
    assert len(buffer.take()[0]) == BATCH_RECORDS
    assert len(buffer.take()[0]) == 1
    for _ in range(3):
        buffer.offer(bytes(BATCH_BYTES // 2))
    buffer.offer(bytes(BATCH_BYTES * 2))
    assert [len(batch) for batch in (buffer.take()[0], buffer.take()[0], buffer.take()[0])] == [2, 1, 1]


def test_what_was_not_sent_goes_back_to_the_front() -> None:
    """Order survives a send that failed, and the size is still right."""
    buffer = LogBuffer(max_bytes=5 * len(record(0)))
    buffer.open(None)
    for number in range(4):
        buffer.offer(record(number))
    taken, _ = buffer.take()
    buffer.offer(record(4))
    buffer.restore(taken)
    assert buffer.take() == ([record(number) for number in range(5)], 0)
    buffer.restore([record(number) for number in range(5)])
    buffer.offer(record(5))
    assert buffer.take() == ([record(number) for number in range(1, 6)], 1)


# --- the stream --------------------------------------------------------------------------------------------------------


async def test_records_arrive_as_soon_as_there_are_some(connect: Connect) -> None:
    """One record is a batch; a burst is a few full ones."""
    plugin = Plugin()
    async with follow(await connect(plugin.service), level=20) as follower:
        await plugin.followed()
        plugin.buffer.offer(record(0))
        batch = await anext(follower)
        assert [read.event for read in batch.records] == ["0"]
        for number in range(1000):
            plugin.buffer.offer(record(number))
        sizes: list[int] = []
        events: list[str] = []
        while len(events) < 1000:
            batch = await anext(follower)
            sizes.append(len(batch.records))
            events += [read.event for read in batch.records]
    assert events == [str(number) for number in range(1000)]
    assert len(sizes) <= 1000 // BATCH_RECORDS + 2


async def test_the_level_follows_the_host(connect: Connect) -> None:
    """The first request and each later one set it; of several at once the last is what counts."""
    plugin = Plugin()
    async with follow(await connect(plugin.service), level=20) as follower:
        await plugin.followed()
        assert plugin.levels == [20]
        for level in (10, 30, 40):
            follower.set_level(level)
        while plugin.levels[-1] != 40:
            await asyncio.sleep(0)
        follower.set_level(10)
        while plugin.levels[-1] != 10:
            await asyncio.sleep(0)


async def test_other_calls_are_served_during_a_burst(connect: Connect) -> None:
    """The sender yields between batches: a health check does not wait for the end of the burst."""
    plugin = Plugin()
    channel = await connect(plugin.service, HealthService())
    async with follow(channel, level=20) as follower:
        await plugin.followed()
        for number in range(20_000):
            plugin.buffer.offer(record(number))
        await check(channel, timeout=5)
        assert len(plugin.buffer) > 10_000
        seen = 0
        while seen < 20_000:
            seen += len((await anext(follower)).records)


async def test_a_closed_service_sends_what_it_has_and_ends(connect: Connect) -> None:
    """The end of the plugin is the end of the iteration, after the last record."""
    plugin = Plugin()
    channel = await connect(plugin.service)
    async with follow(channel, level=20) as follower:
        await plugin.followed()
        for number in range(300):
            plugin.buffer.offer(record(number))
        plugin.service.close()
        events = [read.event async for batch in follower for read in batch.records]
    assert events == [str(number) for number in range(300)]
    await plugin.unfollowed.wait()
    async with follow(channel, level=20) as refused:
        assert [batch async for batch in refused] == []


async def test_a_follower_that_leaves_is_noticed(connect: Connect) -> None:
    """What it did not take stays in the buffer, which stays open until somebody has emptied it."""
    plugin = Plugin()
    async with follow(await connect(plugin.service), level=20):
        await plugin.followed()
    await plugin.unfollowed.wait()
    assert not plugin.service.followed
    assert plugin.buffer.is_open
    plugin.buffer.offer(record(1))
    assert plugin.buffer.take() == ([record(1)], 0)


async def test_the_latest_follower_wins(connect: Connect) -> None:
    """A host that reconnects takes over; the earlier call ends and nobody is told that the log is unfollowed."""
    plugin = Plugin()
    channel = await connect(plugin.service)
    async with follow(channel, level=20) as earlier:
        await plugin.followed()
        async with follow(channel, level=10) as later:
            assert [batch async for batch in earlier] == []
            plugin.buffer.offer(record(1))
            assert [read.event for read in (await anext(later)).records] == ["1"]
            assert not plugin.unfollowed.is_set()
    assert plugin.levels == [20, 10]


async def test_the_drop_counter_is_in_each_batch(connect: Connect) -> None:
    """It counts what was lost before the batch's first record, so that the gap has a place."""
    plugin = Plugin(max_records=10)
    async with follow(await connect(plugin.service), level=20) as follower:
        await plugin.followed()
        for number in range(25):
            plugin.buffer.offer(record(number))
        batch = await anext(follower)
        assert batch.dropped == 15
        assert batch.records[0].event == "15"
        plugin.buffer.offer(record(25))
        assert (await anext(follower)).dropped == 15
        assert plugin.buffer.reported == 15


async def test_a_plugin_without_the_service_logs_nothing(connect: Connect) -> None:
    """A plugin of another make logs on stderr: the iteration is empty, and no error."""
    async with follow(await connect(HealthService()), level=20) as follower:
        assert [batch async for batch in follower] == []


async def test_a_lost_connection_is_an_error(connect: Connect) -> None:
    """The host learns that records may be missing."""
    plugin = Plugin()
    channel = await connect(plugin.service)
    async with follow(channel, level=20) as follower:
        await plugin.followed()
        channel.close()
        with pytest.raises(ConnectionLostError):
            await anext(follower)
        follower.set_level(10)
    await plugin.unfollowed.wait()


async def test_garbage_is_a_typed_error_and_the_end(connect: Connect) -> None:
    """A plugin that sends what is not a batch is heard no more."""

    class Garbage:
        def __mapping__(self) -> dict[str, Handler]:
            route = "/supervisor.logs.v1.Logs/Follow"
            return {route: Handler(self.follow, Cardinality.STREAM_STREAM, FollowRequest, RawBatch)}

        async def follow(self, stream: Any) -> None:
            await stream.recv_message()
            await stream.send_message(RawBatch(b"\x0a\xff"))
            await asyncio.Event().wait()

    async with follow(await connect(Garbage()), level=20) as follower:
        with pytest.raises(DecodeError):
            await anext(follower)
        assert [batch async for batch in follower] == []
