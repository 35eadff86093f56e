from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import anyio
import pytest

from supervisor.runners.pipes import PipeReader


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe; the test closes the reading end through its reader."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(writing)


async def test_chunks_arrive_as_they_were_written_and_then_the_end(pipe: tuple[int, int]) -> None:
    """What is there comes at once, the end of file only after it, and again when asked again."""
    reader = PipeReader(pipe[0], asyncio.get_running_loop())
    os.write(pipe[1], b"hello")
    assert await reader.receive() == b"hello"
    waiting = asyncio.create_task(reader.receive())
    await asyncio.sleep(0)
    os.write(pipe[1], b"later")
    assert await waiting == b"later"
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, pipe[1])  # closes the last writing end
    os.close(null)
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await reader.receive()
    reader.close()


async def test_a_chunk_has_64_kib_at_most(pipe: tuple[int, int]) -> None:
    """The pipe is emptied in bounded pieces."""
    reader = PipeReader(pipe[0], asyncio.get_running_loop())
    os.set_blocking(pipe[1], False)
    written = 0
    while True:
        try:
            written += os.write(pipe[1], b"x" * 65536)
        except BlockingIOError:
            break
    sizes: list[int] = []
    while sum(sizes) < written:
        sizes.append(len(await reader.receive()))
    reader.close()

    assert max(sizes) <= 65536


async def test_nothing_is_read_ahead(pipe: tuple[int, int]) -> None:
    """Without a `receive()` the pipe stays full: the writer is held back, the host's memory is not filled."""
    reader = PipeReader(pipe[0], asyncio.get_running_loop())
    os.set_blocking(pipe[1], False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(pipe[1], b"x" * 4096)
    for _ in range(10):
        await asyncio.sleep(0)

    with pytest.raises(BlockingIOError):
        os.write(pipe[1], b"x")
    reader.close()


async def test_a_flood_does_not_starve_the_loop(pipe: tuple[int, int]) -> None:
    """With data always at hand, every `receive()` still lets others run."""
    reader = PipeReader(pipe[0], asyncio.get_running_loop())
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(20):
        os.write(pipe[1], b"x")
        await reader.receive()
    task.cancel()
    reader.close()

    assert turns >= 19


@pytest.mark.parametrize("cancel", ["native", "anyio"])
async def test_a_cancelled_reader_loses_nothing(pipe: tuple[int, int], cancel: str) -> None:
    """Whoever reads next gets the bytes, and the loop no longer watches the descriptor in between."""
    loop = asyncio.get_running_loop()
    reader = PipeReader(pipe[0], loop)
    if cancel == "native":
        task = asyncio.create_task(reader.receive())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.write(pipe[1], b"kept")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with anyio.move_on_after(0.001):
            await reader.receive()
        os.write(pipe[1], b"kept")

    assert loop.remove_reader(pipe[0]) is False
    assert await reader.receive() == b"kept"
    reader.close()


async def test_closing_wakes_the_reader(pipe: tuple[int, int]) -> None:
    """A waiting reader, and every later one, is told that the stream was closed; closing again does nothing."""
    reader = PipeReader(pipe[0], asyncio.get_running_loop())
    waiting = asyncio.create_task(reader.receive())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.close()
    reader.close()

    with pytest.raises(anyio.ClosedResourceError):
        await waiting
    with pytest.raises(anyio.ClosedResourceError):
        await reader.receive()


async def test_one_reader_at_a_time(pipe: tuple[int, int]) -> None:
    """The second of two readers is refused and the first is not disturbed."""
    reader = PipeReader(pipe[0], asyncio.get_running_loop())
    waiting = asyncio.create_task(reader.receive())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(anyio.BusyResourceError):
        await reader.receive()
    os.write(pipe[1], b"first")

    assert await waiting == b"first"
    reader.close()
