"""Generated stubs and servicers, unmodified: betterproto's, betterproto2's and grpclib's, on one server and channel."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from supervisor.errors import ConnectionLostError, DeadlineExceededError
from supervisor.transport.channel import Channel
from supervisor.transport.generated import repair_stub
from supervisor.transport.server import Server, current_call

Connect = Callable[..., Awaitable[tuple[Server, Channel]]]

PROTO = """
syntax = "proto3";
package {package};
message Note {{ string text = 1; int32 number = 2; }}
service Talk {{
  rpc Say (Note) returns (Note);
  rpc Count (Note) returns (stream Note);
  rpc Join (stream Note) returns (Note);
  rpc Chat (stream Note) returns (stream Note);
}}
"""
OPTIONS = {
    "talk_one": ["--python_betterproto_out={out}"],
    "talk_two": [
        "--python_betterproto2_out={out}/two",
        "--python_betterproto2_opt=client_generation=async,server_generation=async",
    ],
    "talk_three": ["--python_out={out}", "--grpclib_python_out={out}"],
}


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModuleType]]:
    """Compile one contract for each library; return the generated modules."""
    out = tmp_path_factory.mktemp("generated")
    (out / "two").mkdir()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for package, options in OPTIONS.items():
        (out / f"{package}.proto").write_text(PROTO.format(package=package))
        arguments = [option.format(out=out) for option in options]
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(out), *arguments, f"{package}.proto"]
        subprocess.run(command, cwd=out, env=environment, check=True, capture_output=True, timeout=60)
    sys.path.insert(0, str(out))
    try:
        names = ("talk_one", "two.talk_two", "talk_three_pb2", "talk_three_grpc")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(out))


def servicer(module: ModuleType) -> Any:
    """Return a servicer on a base class that betterproto or betterproto2 generated."""
    note = module.Note

    class Talk(module.TalkBase):  # type: ignore[misc, name-defined] # generated at run time
        closed_in: asyncio.Task[Any] | None = None
        opened_in: asyncio.Task[Any] | None = None
        closed = 0

        async def say(self, message: Any) -> Any:
            if message.text == "who":
                return note(text=str(current_call().metadata.get("who")))
            return note(text=message.text.upper(), number=message.number + 1)

        async def count(self, message: Any) -> AsyncIterator[Any]:
            type(self).opened_in = asyncio.current_task()
            try:
                async with anyio.create_task_group():
                    for number in range(message.number):
                        yield note(number=number, text=message.text)
            finally:
                type(self).closed_in = asyncio.current_task()
                type(self).closed += 1

        async def join(self, messages: Any) -> Any:
            return note(text="".join([message.text async for message in messages]))

        async def chat(self, messages: Any) -> AsyncIterator[Any]:
            async for message in messages:
                if message.text == "stop":
                    return
                if message.text == "fail":
                    raise GRPCError(Status.ABORTED, "asked to")
                yield note(text=message.text)

    return Talk()


async def notes(note: Any, *texts: str, then: BaseException | asyncio.Event | None = None) -> AsyncIterator[Any]:
    """Yield notes, then raise `then` or wait for it."""
    for text in texts:
        yield note(text=text)
    if isinstance(then, BaseException):
        raise then
    if then is not None:
        await then.wait()


def grpclib_servicer(generated: dict[str, ModuleType]) -> Any:
    """Return a servicer on a base class that grpclib generated, for google.protobuf messages."""
    note = generated["talk_three_pb2"].Note

    class Talk(generated["talk_three_grpc"].TalkBase):  # type: ignore[misc] # generated at run time
        async def Say(self, stream: Any) -> None:  # noqa: N802 - the name in the proto
            request = await stream.recv_message()
            await stream.send_message(note(text=request.text.upper(), number=request.number + 1))

        async def Count(self, stream: Any) -> None:  # noqa: N802 - the name in the proto
            request = await stream.recv_message()
            for number in range(request.number):
                await stream.send_message(note(number=number))

        async def Join(self, stream: Any) -> None:  # noqa: N802 - the name in the proto
            await stream.send_message(note(text="".join([message.text async for message in stream])))

        async def Chat(self, stream: Any) -> None:  # noqa: N802 - the name in the proto
            async for message in stream:
                await stream.send_message(message)

    return Talk()


async def test_three_libraries_share_a_server_and_a_channel(connect: Connect, generated: dict[str, ModuleType]) -> None:
    """Stubs and servicers of betterproto, betterproto2 and grpclib work side by side, all four kinds of call."""
    one, two = generated["talk_one"], generated["two.talk_two"]
    _, channel = await connect(servicer(one), servicer(two), grpclib_servicer(generated))

    for module in (one, two):
        stub, note = module.TalkStub(channel), module.Note
        assert await stub.say(note(text="hi", number=1), timeout=5) == note(text="HI", number=2)
        assert (await stub.say(note(text="who"), metadata={"who": "me"})).text == "me"
        assert [reply.number async for reply in stub.count(note(number=5))] == [0, 1, 2, 3, 4]
        assert (await stub.join(notes(note, "a", "b", "c"))).text == "abc"
        assert [reply.text async for reply in stub.chat(notes(note, "a", "b"))] == ["a", "b"]

    third, note = generated["talk_three_grpc"].TalkStub(channel), generated["talk_three_pb2"].Note
    assert await third.Say(note(text="hi", number=1)) == note(text="HI", number=2)
    assert [reply.number for reply in await third.Count(note(number=3))] == [0, 1, 2]
    assert (await third.Join([note(text="a"), note(text="b")])).text == "ab"
    assert [reply.text for reply in await third.Chat([note(text="a"), note(text="b")])] == ["a", "b"]


LIBRARIES = pytest.mark.parametrize("library", ["talk_one", "two.talk_two"])
REPAIRED = pytest.mark.parametrize("repair", [repair_stub, lambda stub: stub], ids=["repaired", "as generated"])


@LIBRARIES
async def test_streaming_handler_is_closed_in_its_own_task(
    connect: Connect, generated: dict[str, ModuleType], library: str
) -> None:
    """A handler with a task group inside is torn down where it ran when its client goes away while it sends."""
    module = generated[library]
    service = servicer(module)
    server, channel = await connect(service)
    replies = module.TalkStub(channel).count(module.Note(number=10**9, text="x" * 50_000))
    assert (await anext(replies)).number == 0
    await replies.aclose()
    async with asyncio.timeout(5):
        while server.in_flight:
            await asyncio.sleep(0)
    assert service.closed == 1
    assert service.opened_in is service.closed_in is not None


@LIBRARIES
@REPAIRED
async def test_bidirectional_call_that_the_server_ends_first(
    connect: Connect, generated: dict[str, ModuleType], library: str, repair: Callable[[Any], Any]
) -> None:
    """The caller gets what was sent and a clean end, and no task goes on sending."""
    module = generated[library]
    _, channel = await connect(servicer(module))
    before = asyncio.all_tasks()
    never = asyncio.Event()
    requests = notes(module.Note, "a", "stop", then=never)
    async with asyncio.timeout(5):
        replies = [reply.text async for reply in repair(module.TalkStub(channel)).chat(requests)]
    assert replies == ["a"]
    await _settle(before)


@LIBRARIES
@REPAIRED
async def test_bidirectional_call_that_the_server_fails(
    connect: Connect, generated: dict[str, ModuleType], library: str, repair: Callable[[Any], Any]
) -> None:
    """The caller gets the status, and no task goes on sending."""
    module = generated[library]
    _, channel = await connect(servicer(module))
    before = asyncio.all_tasks()
    requests = notes(module.Note, "a", "fail", then=asyncio.Event())
    with pytest.raises(GRPCError) as caught:
        async with asyncio.timeout(5):
            _ = [reply async for reply in repair(module.TalkStub(channel)).chat(requests)]
    assert caught.value.status is Status.ABORTED
    await _settle(before)


@LIBRARIES
@REPAIRED
async def test_bidirectional_call_whose_requests_raise(
    connect: Connect, generated: dict[str, ModuleType], library: str, repair: Callable[[Any], Any]
) -> None:
    """What the caller's iterator raises reaches the caller, unchanged, instead of a hang."""
    module = generated[library]
    _, channel = await connect(servicer(module))
    before = asyncio.all_tasks()
    mine = TimeoutError("mine")
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(5):
            _ = [reply async for reply in repair(module.TalkStub(channel)).chat(notes(module.Note, "a", then=mine))]
    assert caught.value is mine
    await _settle(before)


@LIBRARIES
@pytest.mark.parametrize("method", ["join", "chat"])
@pytest.mark.parametrize("end", ["drop", "deadline", "first"])
async def test_repaired_stub_does_not_wait_for_requests_that_never_come(
    connect: Connect, generated: dict[str, ModuleType], library: str, method: str, end: str
) -> None:
    """A call whose iterator is stuck, before the first request too, ends with the connection or the deadline."""
    module = generated[library]
    server, channel = await connect(servicer(module))
    before = asyncio.all_tasks()
    stub = repair_stub(module.TalkStub(channel))
    mine = LookupError("mine")
    requests = notes(module.Note, *([] if end == "first" else ["a"]), then=mine if end == "first" else asyncio.Event())

    async def call() -> None:
        timeout = 0.2 if end == "deadline" else 30
        if method == "join":
            await stub.join(requests, timeout=timeout)
        else:
            async for _ in stub.chat(requests, timeout=timeout):
                pass

    calling = asyncio.create_task(call())
    if end == "drop":
        async with asyncio.timeout(5):
            while not server.in_flight:
                await asyncio.sleep(0)
        server.abort()
    await asyncio.wait({calling}, timeout=5)
    expected = {"drop": ConnectionLostError, "deadline": DeadlineExceededError, "first": LookupError}[end]
    assert type(calling.exception()) is expected
    await _settle(before)


@LIBRARIES
async def test_stub_arguments_survive_the_repair(
    connect: Connect, generated: dict[str, ModuleType], library: str
) -> None:
    """A repaired stub keeps its own timeout and metadata, and a call's own come before them."""
    module = generated[library]
    _, channel = await connect(servicer(module))
    stub = repair_stub(module.TalkStub(channel, timeout=0.1))
    with pytest.raises(DeadlineExceededError):
        await stub.join(notes(module.Note, "a", then=asyncio.Event()))
    assert (await stub.join(notes(module.Note, "a"), timeout=5)).text == "a"
    assert (await stub.join([module.Note(text="x"), module.Note(text="y")])).text == "xy"


def test_what_is_not_generated_is_left_alone() -> None:
    """A stub that is no betterproto stub, or overrides the method itself, is not touched."""

    class Own:
        async def _stream_stream(self) -> None: ...

    for stub in (Own(), object()):
        assert repair_stub(stub) is stub
        assert "_stream_unary" not in getattr(stub, "__dict__", {})


async def _settle(before: set[asyncio.Task[Any]]) -> None:
    """Wait until the tasks that a call started are gone; the server's are gone when its client's are."""
    async with asyncio.timeout(2):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)
