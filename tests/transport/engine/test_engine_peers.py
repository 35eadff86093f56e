"""What peers do to calls that no rule forbids, over real sockets: refusals, resets, limits on what they take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from raw_wire import Wire, answer, connected_wire, raw_server

from supervisor.address import UnixAddress
from supervisor.errors import CallResetError, DeadlineExceededError
from supervisor.testing.raw_peer import message
from supervisor.testing.transport_contract import Blob, ContractService
from supervisor.transport.dial import dial
from supervisor.transport.engine import frames
from supervisor.transport.engine.channel import EngineChannel
from supervisor.transport.engine.details import Any as AnyMessage
from supervisor.transport.engine.faults import ErrorCode, FrameOrderError, MetadataTooLargeError
from supervisor.transport.engine.frames import Setting, rst_stream
from supervisor.transport.engine.headers import list_size

Act = Callable[[Wire], Awaitable[None]]
Make = Callable[..., Any]


@pytest.fixture
def engine() -> str:
    """Leave out the other engine."""
    return "lean"


@contextlib.asynccontextmanager
async def served_by(folder: Path, act: Act) -> AsyncIterator[EngineChannel]:
    """Connect to a server by hand that has exchanged settings when it begins to act."""

    async def greet_and_act(wire: Wire) -> None:
        await wire.greet_client()
        await act(wire)

    async with raw_server(folder / "raw", greet_and_act):
        channel: Any = await dial(UnixAddress(str(folder / "raw")), timeout=5, engine="lean")
        try:
            yield channel
        finally:
            channel.close()
            await channel.wait_closed()


async def get(channel: EngineChannel, **options: Any) -> bytes:
    """Make a unary call."""
    async with asyncio.timeout(10):
        reply: Blob = await channel.unary("/test.Raw/Get", Blob(b"request"), Blob, **options)
    return reply.data


def refusing(times: int) -> Act:
    """Return an act that refuses so many calls, and answers those after them."""

    async def act(wire: Wire) -> None:
        for number in range(10_000):
            _, _, stream, _ = await wire.until(frames.DATA, frames.END_STREAM)
            wire.send(rst_stream(stream, ErrorCode.REFUSED_STREAM) if number < times else answer(stream))

    return act


@pytest.mark.parametrize("size", [10, 20_000], ids=["one-step", "long"])
async def test_unary_call_that_is_refused_is_made_again(folder: Path, size: int) -> None:
    """A refusal says that the peer did not look at the call, which then is safe to repeat; streams are the caller's."""
    async with served_by(folder, refusing(2)) as channel:
        reply: Blob = await channel.unary("/test.Raw/Get", Blob(bytes(size)), Blob, timeout=5)
        assert reply.data == b"reply"
        assert not channel.calls


async def test_refusals_without_end_are_told(folder: Path) -> None:
    """A peer that refuses whatever comes is not asked forever."""
    async with served_by(folder, refusing(1000)) as channel:
        with pytest.raises(CallResetError) as caught:
            await get(channel)
        assert (caught.value.code, caught.value.maybe_executed) == ("REFUSED_STREAM", False)
        with pytest.raises(CallResetError):
            await get(channel, metadata=[("x", "v" * 9000)])


@pytest.mark.parametrize("code", [ErrorCode.CANCEL, ErrorCode.INTERNAL_ERROR])
async def test_reset_at_the_deadline_is_the_deadline(folder: Path, code: ErrorCode) -> None:
    """Where the peer's clock is first and it cancels the call, as grpc-go's server does, the deadline has passed."""

    async def act(wire: Wire) -> None:
        for _ in range(2):
            _, _, stream, _ = await wire.until(frames.DATA, frames.END_STREAM)
            wire.send(rst_stream(stream, code))

    expected = DeadlineExceededError if code is ErrorCode.CANCEL else CallResetError
    async with served_by(folder, act) as channel:
        with pytest.raises(expected):
            await get(channel, timeout=0.04)
        with pytest.raises(CallResetError):
            await get(channel, timeout=10)


@pytest.mark.parametrize(
    "kind", [Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM, None], ids=["uu", "us", "one-step"]
)
async def test_answer_right_before_a_violation_is_an_answer(folder: Path, kind: Cardinality | None) -> None:
    """What the peer breaks behind a whole response, in the same bytes, ends the connection and not the call."""

    async def act(wire: Wire) -> None:
        _, _, stream, _ = await wire.until(frames.DATA, frames.END_STREAM)
        wire.send(answer(stream), rst_stream(0, 0))
        await wire.ended()

    async with served_by(folder, act) as channel, asyncio.timeout(5):
        if kind is None:
            assert await get(channel) == b"reply"
        else:
            async with channel.request("/test.Raw/Get", kind, Blob, Blob) as call:
                await call.send_message(Blob(b"request"), end=True)
                assert [reply.data async for reply in call] == [b"reply"]
        await channel.lost.wait()
        assert isinstance(channel.failure, FrameOrderError)


# --- headers that the peer does not take -------------------------------------------------------------------------------


def limited(size: int) -> Act:
    """Return an act that takes so many bytes of headers, says so, and answers."""

    async def act(wire: Wire) -> None:
        wire.send(frames.settings([(Setting.MAX_HEADER_LIST_SIZE, size)]), answered_by(0))
        while True:
            kind, flags, stream, payload = await wire.take()
            if kind == frames.HEADERS:
                fields = wire.decoder.decode(payload, raw=True)
                assert sum(len(name) + len(value) + 32 for name, value in fields) <= size
            if kind == frames.DATA and flags & frames.END_STREAM:
                wire.send(answer(stream))

    return act


def answered_by(stream: int) -> bytes:
    """Return a PING, which the peer has answered when it has seen what came before."""
    return frames.frame(frames.PING, 0, stream, b"12345678")


@pytest.mark.parametrize("step", [False, True], ids=["one-step", "stepwise"])
@pytest.mark.parametrize("many", [False, True], ids=["long", "many"])
async def test_headers_over_the_limit_of_the_peer_are_not_sent(folder: Path, many: bool, step: bool) -> None:
    """Metadata over the limit that the peer announced fail the call, unexecuted, and not the connection."""
    async with served_by(folder, limited(4000)) as channel:
        assert await get(channel) == b"reply"
        while channel.wire.connection.peer_header_list != 4000:
            await get(channel)

        async def call(size: int) -> bytes:
            metadata = [("k", "v")] * (size // 34) if many else [("k", "v" * (size - 33))]
            if not step:
                return await get(channel, metadata=metadata, timeout=5)
            kind = Cardinality.UNARY_UNARY
            async with channel.request("/test.Raw/Get", kind, Blob, Blob, metadata=metadata) as stream:
                await stream.send_message(Blob(b"request"))
                reply = await stream.recv_message()
            assert reply is not None
            return reply.data

        head = list_size(channel.head_of("/test.Raw/Get").fields)
        with pytest.raises(MetadataTooLargeError) as caught:
            await call(4000 - head + 34)
        assert (caught.value.limit, caught.value.maybe_executed) == (4000, False)
        assert await call(4000 - head - 100) == b"reply"  # with room for the deadline
        assert not channel.calls


@pytest.mark.parametrize("what", ["initial", "trailing", "message", "details"])
async def test_response_headers_over_the_limit_of_the_caller(connect: Make, folder: Path, what: str) -> None:
    """A handler hears that its metadata are too large; of a status as much arrives as the caller takes."""

    class Talker(ContractService):
        async def _echo(self, stream: Any) -> None:
            much = [("k", "v" * 5000)]
            if what in {"message", "details"}:
                details = [AnyMessage(type_url="t", value=bytes(5000))] if what == "details" else None
                raise GRPCError(Status.NOT_FOUND, "n\xf6" * (3000 if what == "message" else 1), details)
            if what == "initial":
                with pytest.raises(MetadataTooLargeError) as caught:
                    await stream.send_initial_metadata(metadata=much)
                assert caught.value.limit == 4000
            await stream.send_message(await stream.recv_message())
            if what == "trailing":
                with pytest.raises(MetadataTooLargeError):
                    await stream.send_trailing_metadata(metadata=much)

    await connect(Talker(), address=UnixAddress(str(folder / "talker")))
    async with connected_wire(str(folder / "talker")) as wire:
        await wire.greet_server()
        wire.send(frames.settings([(Setting.MAX_HEADER_LIST_SIZE, 4000)]))
        wire.request(1, "/supervisor.testing.Contract/Echo", message(b"x"))
        fields: dict[bytes, bytes] = {}
        while b"grpc-status" not in fields:
            _, _, _, block = await wire.until(frames.HEADERS)
            found = wire.decoder.decode(block, raw=True)
            assert sum(len(name) + len(value) + 32 for name, value in found) <= 4000
            fields.update(found)
        if what in {"message", "details"}:
            assert fields[b"grpc-status"] == b"5"
            assert fields[b"grpc-message"].startswith(b"n%C3%B6")
        else:
            assert fields[b"grpc-status"] == b"0"
