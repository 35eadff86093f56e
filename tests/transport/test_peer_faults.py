"""What a server may send, and what the caller sees of it: one typed error, soon, and other calls unharmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from h2.errors import ErrorCodes
from h2.events import RequestReceived
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PushPromiseFrame, WindowUpdateFrame

from supervisor.address import MemoryAddress
from supervisor.errors import (
    CallResetError,
    ConnectionLostError,
    DeadlineExceededError,
    DecodeError,
    MessageTooLargeError,
    ProtocolViolationError,
)
from supervisor.testing.raw_peer import RawPeer, message
from supervisor.testing.transport_contract import Blob
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial
from supervisor.transport.memory import MemoryListener

ADDRESS = MemoryAddress("raw-server")
HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0")]


class Link:
    """A channel of ours and the server by hand at its other end."""

    def __init__(self, peer: RawPeer, channel: Channel) -> None:
        self.peer = peer
        self.channel = channel

    async def call(self, message_type: type[Any] = Blob, **options: Any) -> Any:
        kind = Cardinality.UNARY_UNARY
        async with (
            asyncio.timeout(5),
            self.channel.request("/test.Raw/Call", kind, Blob, message_type, **options) as call,
        ):
            await call.send_message(Blob(b"request"), end=True)
            return await call.recv_message()

    async def serve(self, act: Callable[[RawPeer, int], None], **options: Any) -> Any:
        """Make a call and let the server do `act` once it has the request."""
        seen = len(self._requests())
        calling = asyncio.create_task(self.call(**options))
        await self.peer.until(lambda: len(self._requests()) > seen)
        act(self.peer, self._requests()[-1])
        self.peer.flush()
        return await calling

    def _requests(self) -> list[int]:
        return [event.stream_id for event in self.peer.events if isinstance(event, RequestReceived) and event.stream_id]


@pytest.fixture
async def link(errors: list[Any], engine: str) -> AsyncIterator[Link]:
    """Return a connection; the event loop must not be told of anything."""
    peer = RawPeer(client_side=False)
    listener = MemoryListener(ADDRESS, lambda: peer)
    channel = await dial(ADDRESS, timeout=2)
    yield Link(peer, channel)
    channel.close()
    await channel.wait_closed()
    listener.close()


def answer(
    *, headers: list[tuple[str, str]] = HEADERS, data: bytes = message(b"reply"), trailers: Any = OK, end: bool = False
) -> Callable[[RawPeer, int], None]:
    """Return an act that answers with these parts; `end` ends the stream without trailers."""

    def act(peer: RawPeer, stream: int) -> None:
        peer.h2.send_headers(stream, headers, end_stream=trailers is None and not data)
        if data:
            peer.h2.send_data(stream, data, end_stream=end)
        if trailers is not None:
            peer.h2.send_headers(stream, trailers, end_stream=True)

    return act


def frame(make: Callable[[int], Frame]) -> Callable[[RawPeer, int], None]:
    """Return an act that sends one frame."""
    return lambda peer, stream: peer.frame(make(stream))


def trailers_only(*fields: tuple[str, str]) -> Callable[[RawPeer, int], None]:
    """Return an act that answers with headers alone."""
    return answer(headers=[*fields], data=b"", trailers=None)


STATUSES = {
    "without a content-type": (trailers_only((":status", "200"), ("grpc-status", "12")), Status.UNIMPLEMENTED, None),
    "415 with a status": (trailers_only((":status", "415"), ("grpc-status", "13")), Status.INTERNAL, None),
    "404 of a web server": (trailers_only((":status", "404")), Status.UNIMPLEMENTED, "Received :status = '404'"),
    "raw UTF-8": (
        answer(data=b"", trailers=[("grpc-status", "5"), ("grpc-message", "nöt")]), Status.NOT_FOUND, "nöt",
    ),
    "unknown code": (answer(data=b"", trailers=[("grpc-status", "99")]), Status.UNKNOWN, "Invalid grpc-status: '99'"),
    "after half a message": (answer(data=message(b"x", size=9), trailers=[("grpc-status", "15")]), Status.DATA_LOSS, None),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES.values(), ids=STATUSES)
async def test_status_is_found_wherever_it_is(link: Link, case: tuple[Any, Status, str | None]) -> None:
    """The peer's status reaches the caller however sloppily it was sent, and the channel goes on."""
    act, status, text = case
    with pytest.raises(GRPCError) as caught:
        await link.serve(act)
    assert (caught.value.status, caught.value.message) == (status, text)
    assert await link.serve(answer()) == Blob(b"reply")


VIOLATIONS = {
    "no status": answer(trailers=[("x", "y")]),
    "no trailers": answer(trailers=None, end=True),
    "no HTTP status": trailers_only(("content-type", "application/grpc"), ("grpc-status", "0")),
    "neither content-type nor status": trailers_only((":status", "200")),
    "a web page": answer(headers=[(":status", "200"), ("content-type", "text/html")], data=b"<html>"),
    "-bin that is not base64, first": answer(headers=[*HEADERS, ("x-bin", "A")]),
    "-bin that is not base64, last": answer(trailers=[*OK, ("x-bin", "\xff")]),
    "half a message": answer(data=message(b"x", size=9)),
    "half a prefix": answer(data=b"\0\0"),
    "no message": answer(data=b""),
    "compressed": answer(data=message(b"x", compressed=True)),
}


@pytest.mark.parametrize("act", VIOLATIONS.values(), ids=VIOLATIONS)
async def test_answer_that_breaks_grpc_is_a_protocol_violation(link: Link, act: Callable[[RawPeer, int], None]) -> None:
    """An answer that breaks gRPC's rules ends its call with a typed error, and the channel goes on."""
    with pytest.raises(ProtocolViolationError):
        await link.serve(act)
    assert await link.serve(answer()) == Blob(b"reply")


async def test_reply_that_cannot_be_decoded_is_a_decode_error(link: Link) -> None:
    """Whatever a message class raises about its bytes becomes `DecodeError`, and the channel goes on."""

    class Picky(Blob):
        @classmethod
        def FromString(cls, data: bytes) -> Blob:  # noqa: N802 - protobuf's name
            raise KeyError(data)

    with pytest.raises(DecodeError):
        await link.serve(answer(), message_type=Picky)
    assert await link.serve(answer()) == Blob(b"reply")


@pytest.mark.parametrize("size", [(64 << 20) + 1, 2**31, 2**32 - 1])
async def test_reply_over_the_limit_is_refused_by_its_prefix(link: Link, size: int) -> None:
    """A reply of two gigabytes costs what its first frame costs: it is refused before it is read."""
    with pytest.raises(MessageTooLargeError) as caught:
        await link.serve(answer(data=message(b"x" * 1000, size=size)))
    assert (caught.value.size, caught.value.limit) == (size, 64 << 20)
    assert await link.serve(answer()) == Blob(b"reply")


@pytest.mark.parametrize(("code", "executed"), [(ErrorCodes.CANCEL, True), (ErrorCodes.REFUSED_STREAM, False)])
async def test_reset_ends_one_call(link: Link, code: ErrorCodes, executed: bool) -> None:
    """A reset says by its code whether the peer looked at the call; the channel goes on."""
    with pytest.raises(CallResetError) as caught:
        await link.serve(lambda peer, stream: peer.h2.reset_stream(stream, code))
    assert (caught.value.code, caught.value.maybe_executed) == (code.name, executed)
    assert await link.serve(answer()) == Blob(b"reply")


async def test_reset_after_the_answer_means_nothing(link: Link) -> None:
    """A server that needs no more of the request answers and resets: that is an answer."""

    def act(peer: RawPeer, stream: int) -> None:
        answer()(peer, stream)
        peer.flush()
        peer.write(bytes.fromhex("00000403 00") + stream.to_bytes(4, "big") + bytes(4))

    assert await link.serve(act) == Blob(b"reply")
    assert await link.serve(answer()) == Blob(b"reply")


@pytest.mark.parametrize(("last", "code", "executed"), [(0, 0, False), (0, 2, False), (2**31 - 1, 11, True)])
async def test_goaway_under_a_call(link: Link, last: int, code: int, executed: bool) -> None:
    """A GOAWAY says which calls were not looked at; one with an error ends them all."""
    with pytest.raises(ConnectionLostError) as caught:
        await link.serve(frame(lambda _: GoAwayFrame(0, last_stream_id=last, error_code=code)))
    assert caught.value.maybe_executed is executed
    async with asyncio.timeout(1):
        await link.channel.lost.wait()
    with pytest.raises(ConnectionLostError) as caught:
        await link.call()
    assert not caught.value.maybe_executed


BROKEN: dict[str, Callable[[RawPeer, int], None]] = {
    "oversize frame": lambda peer, stream: peer.write(b"\xff\xff\xff\0\0" + stream.to_bytes(4, "big")),
    "bad HPACK": frame(lambda stream: HeadersFrame(stream, b"\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"])),
    "DATA without HEADERS": frame(lambda stream: DataFrame(stream, b"x")),
    "DATA on a stream that is none": frame(lambda _: DataFrame(2, b"x")),
    "DATA on stream 0": lambda peer, _: peer.write(b"\0\0\1\0\0\0\0\0\0x"),
    "push": frame(lambda stream: PushPromiseFrame(stream, 2, b"\x88", flags=["END_HEADERS"])),
    "window overflow": frame(lambda _: WindowUpdateFrame(0, window_increment=2**31 - 1)),
    "CONTINUATION alone": lambda peer, stream: peer.write(b"\0\0\1\x09\4" + stream.to_bytes(4, "big") + b"\x88"),
    "SETTINGS of a wrong length": lambda peer, _: peer.write(b"\0\0\5\4\0\0\0\0\0" + b"12345"),
    "junk": lambda peer, _: peer.write(bytes(range(256)) * 10),
    "HTTP/1": lambda peer, _: peer.write(b"HTTP/1.1 500 Oops\r\n\r\n"),
}


@pytest.mark.parametrize("act", BROKEN.values(), ids=BROKEN)
async def test_broken_http2_ends_calls_soon(link: Link, act: Callable[[RawPeer, int], None]) -> None:
    """A peer that breaks HTTP/2 costs the connection within 0.2 s, or just the call where HTTP/2 says so."""
    began = time.monotonic()
    with pytest.raises((ProtocolViolationError, CallResetError)):
        await link.serve(act)
    assert time.monotonic() - began < 0.2


async def test_peer_that_takes_no_data_is_bounded_by_the_deadline(link: Link) -> None:
    """A peer whose window stays shut holds the call until its deadline, and no longer."""
    link.peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    link.peer.flush()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError):
        await link.call(timeout=0.1)
    assert link.channel.in_flight == 0


async def test_late_answer_is_discarded(link: Link) -> None:
    """What the peer answers after the deadline reaches nobody and hurts nobody."""
    with pytest.raises(DeadlineExceededError):
        await link.call(timeout=0.05)
    stream = link._requests()[-1]
    # The peer has not read the reset yet when it answers.
    block = link.peer.h2.encoder.encode(HEADERS)
    link.peer.frame(HeadersFrame(stream, block, flags=["END_HEADERS"]))
    link.peer.frame(DataFrame(stream, message(b"late")))
    assert await link.serve(answer()) == Blob(b"reply")
