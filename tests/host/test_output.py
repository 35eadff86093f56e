"""Raw output: bytes to a writer that may be slow, or fail, and is in nobody's way."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
from pathlib import Path

import pytest
from errands import GreeterStub
from watching import Log

from supervisor import ConfigurationError, PluginSpec, Supervisor
from supervisor.events import NoticeRaised
from supervisor.host.output import Output, Stdio

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_task_left: None) -> None:
    """Hold every test in this file to leaving no thread behind."""


class Slow(io.BytesIO):
    """Takes each chunk when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.called = threading.Event()
        self.let = threading.Event()
        self.flushed = 0

    def write(self, data: object, /) -> int:
        """Wait, then take it."""
        self.called.set()
        assert self.let.wait(PATIENCE)
        return super().write(data)  # type: ignore[arg-type]  # bytes

    def flush(self) -> None:
        """Count."""
        self.flushed += 1


async def test_every_byte_in_order() -> None:
    """Chunks arrive as they were put, and what buffers is flushed when nothing more waits."""
    writer = Slow()
    writer.let.set()
    output = Output(writer)
    chunks = [b"%d\n" % number for number in range(2000)]
    for chunk in chunks:
        assert output.put(chunk)
    async with asyncio.timeout(PATIENCE):
        await output.wait_written()

    assert writer.getvalue() == b"".join(chunks)
    assert writer.flushed >= 1


async def test_a_slow_writer_makes_who_asks_for_room_wait() -> None:
    """Up to a mebibyte waits for it; the loop goes on meanwhile."""
    writer = Slow()
    output = Output(writer)
    output.put(b"x" * 1024 * 1024)
    async with asyncio.timeout(PATIENCE):
        await output.wait_room()
    output.put(b"y")
    room = asyncio.ensure_future(output.wait_room())
    await asyncio.to_thread(writer.called.wait, PATIENCE)
    assert not room.done()
    writer.let.set()
    async with asyncio.timeout(PATIENCE):
        await room
        await output.wait_written()

    assert len(writer.getvalue()) == 1024 * 1024 + 1


async def test_a_writer_that_raises_is_not_called_again() -> None:
    """It says so at the next chunk, which is not taken; those who wait are let go."""

    class Full:
        calls = 0

        def write(self, data: bytes, /) -> None:
            self.calls += 1
            raise OSError("the disk is full")

    writer = Full()
    output = Output(writer)
    assert output.put(b"lost")
    async with asyncio.timeout(PATIENCE):
        await output.wait_written()

    assert not output.put(b"not taken")
    assert writer.calls == 1
    assert isinstance(output.error, OSError)


async def test_an_unbuffered_file_gets_what_it_left_over(tmp_path: Path) -> None:
    """A raw pipe takes less than all of a chunk and says so; nothing of it is lost."""
    reader, descriptor = os.pipe()
    with os.fdopen(reader, "rb") as incoming:
        taken: list[bytes] = []
        thread = threading.Thread(target=lambda: taken.append(incoming.read()))
        thread.start()
        with os.fdopen(descriptor, "wb", buffering=0) as outgoing:

            class Halves:
                def write(self, data: bytes, /) -> int | None:
                    return outgoing.write(data[: len(data) // 2 + 1])

            output = Output(Halves())
            output.put(bytes(range(256)) * 4096)
            async with asyncio.timeout(PATIENCE):
                await output.wait_written()
        await asyncio.to_thread(thread.join, PATIENCE)

    assert taken == [bytes(range(256)) * 4096]


def test_a_name_that_no_plugin_has_is_refused() -> None:
    """As for services."""
    with pytest.raises(ConfigurationError, match="stdio for 'b', which no plugin is named"):
        Supervisor([PluginSpec(name="a", command=("a",))], stdio={"b": Stdio()})


PRINTER = """
from betterproto.lib.google.protobuf import StringValue
from grpclib.const import Cardinality, Handler
from supervisor.sdk import serve

class Printer:
    def __mapping__(self):
        return {"/test.Greeter/Greet": Handler(self.say, Cardinality.UNARY_UNARY, StringValue, StringValue)}

    async def say(self, stream):
        request = await stream.recv_message()
        print(request.value, flush=True)
        await stream.send_message(StringValue(value="said"))

serve(Printer())
"""


@pytest.fixture
def printer(tmp_path: Path) -> PluginSpec:
    """Return a plugin that prints what it is told."""
    (tmp_path / "printer.py").write_text(PRINTER)
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return PluginSpec(name="printer", command=(sys.executable, str(tmp_path / "printer.py")), env=path)


async def test_a_blocked_writer_is_in_nobodys_way(printer: PluginSpec, no_orphan_left: None) -> None:
    """Calls are answered, stderr arrives and the plugin stops while its stdout waits; then all of it is written."""
    writer = Slow()
    async with Supervisor([printer], observers=[], stdio={"printer": Stdio(stdout=writer)}) as supervisor:
        greeter = await supervisor.dispense("printer", GreeterStub)
        for number in range(100):
            assert await greeter.greet(f"{number}") == "said"
        assert await asyncio.to_thread(writer.called.wait, PATIENCE)
    assert writer.getvalue() == b""
    writer.let.set()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "plugin output"]
    await asyncio.to_thread(thread.join, PATIENCE)

    assert writer.getvalue() == b"".join(b"%d\n" % number for number in range(100))


async def test_after_a_writer_has_failed_prints_are_records(printer: PluginSpec, no_orphan_left: None) -> None:
    """A notice says so, and nothing else is lost."""

    class Broken:
        raised = threading.Event()

        def write(self, data: bytes, /) -> None:
            self.raised.set()
            raise OSError("the disk is full")

    log, writer = Log(), Broken()
    async with Supervisor([printer], observers=[log], stdio={"printer": Stdio(stdout=writer)}) as supervisor:
        greeter = await supervisor.dispense("printer", GreeterStub)
        await greeter.greet("lost")
        assert await asyncio.to_thread(writer.raised.wait, PATIENCE)
        while not log.of(NoticeRaised):
            await greeter.greet("kept")
        await log.heard(1)

    (notice,) = log.of(NoticeRaised)
    assert "the writer for its stdout raised OSError('the disk is full')" in notice.message
    assert {record.event for record in log.records} == {"kept"}
