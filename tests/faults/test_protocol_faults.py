"""Rows 50 to 52 and 54 of the fault table: what a plugin sends that it must not, and what a call makes of it.

The plugin is `evil_plugin.py`, which writes HTTP/2 frames by hand: it greets as it should, refuses the host's own
streams, waits for the test's call and then does the deeds of the test.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import hpack
import pytest
from grpclib import GRPCError, Status
from grpclib.const import Cardinality
from kv_proto import GetRequest, GetResponse, KvStub
from watching import Log, exit_of, resident

from supervisor import (
    Backoff,
    PluginFailedError,
    PluginSpec,
    PluginUnavailableError,
    Restart,
    RestartIntensity,
    RestartPolicy,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DecodeError,
    MessageTooLargeError,
    PluginCrashedError,
    ProtocolViolationError,
    TransportError,
)
from supervisor.outcome import ExitReason
from supervisor.terms import Limits

Supervise = Callable[..., Supervisor]

MiB = 1 << 20
ONE_LIFE = RestartPolicy(restart=Restart.TEMPORARY)
GREETED = ("listen", "{dir}/s", "handshake", "{dir}/s", "accept", "receive", "greet")

Peer = Callable[..., PluginSpec]


def escaped(what: bytes) -> str:
    """Write bytes as the evil plugin's arguments want them."""
    return "".join(f"\\x{byte:02x}" for byte in what)


GET = escaped(hpack.Encoder().encode([(":path", "/proto.KV/Get")])[1:])
"""The route as it stands in the headers, which the plugin looks for."""

FOLLOW = "/test.Stream/Follow"

VALUE = escaped(bytes(GetResponse(value=b"good")))


@pytest.fixture
def peer(evil: Callable[..., PluginSpec]) -> Peer:
    """Return a function that makes the specification of a plugin that greets, does its deeds and hangs."""

    def make(*deeds: str, **fields: Any) -> PluginSpec:
        quick = StopPolicy(drain=0, shutdown=0, terminate=0)
        return evil(*GREETED, *deeds, "hang", **{"health": None, "restart": ONE_LIFE, "stop": quick, **fields})

    return make


async def get(supervisor: Supervisor, **options: Any) -> bytes:
    """Call once."""
    kv = await supervisor.dispense(KvStub)
    return (await kv.get(GetRequest(key="a"), **options)).value


# --- row 50 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4 * MiB, 4 * MiB + 1, 32 * MiB, 64 * MiB])
async def test_row_50_reply_around_the_limit(supervise: Supervise, kv: Callable[..., PluginSpec], size: int) -> None:
    """A reply up to the limit arrives; a larger one is refused by its size, costs no memory, and the channel goes on.

    Bar: RSS grows by the limit and 16 MiB at most; measured while the reply would be arriving.
    """
    overhead = len(bytes(GetResponse(value=bytes(4 * MiB)))) - 4 * MiB
    limit = 4 * MiB + overhead
    async with supervise(kv(limits=Limits(message_size=limit))) as supervisor:
        stub = await supervisor.dispense(KvStub)
        await stub.get(GetRequest(key="a"))
        before = resident()
        if size + overhead <= limit:
            assert len((await stub.get(GetRequest(key=f"big:{size}"))).value) == size
        else:
            with pytest.raises(MessageTooLargeError) as caught:
                await stub.get(GetRequest(key=f"big:{size}"))
            assert caught.value.size == size + overhead  # counted, not made: the test's own copy would be measured too
            assert caught.value.limit in {limit, Limits().message_size}  # ours, or what the plugin's sdk sends at most
            assert caught.value.plugin == "store"
        assert resident() - before <= limit + 16 * MiB
        assert (await stub.get(GetRequest(key="a"))).value == b""
        assert supervisor.plugin("store").generation == 1


async def test_row_50_two_gigabytes_announced(supervise: Supervise, peer: Peer) -> None:
    """A message whose prefix announces 2 GiB is refused at the prefix: at once, without memory, and the channel goes on."""
    announced = escaped(b"\0" + (2**31 - 1).to_bytes(4, "big") + b"x" * 100)
    spec = peer("call", GET, "headers", "call", "frame", "0", "0", "call", announced,
                "call", "-", "answer", "call", VALUE)  # fmt: skip
    async with supervise(spec) as supervisor:
        await supervisor.ready()
        before, begun = resident(), time.monotonic()
        with pytest.raises(MessageTooLargeError) as caught:
            await get(supervisor)
        assert caught.value.size == 2**31 - 1
        assert time.monotonic() - begun <= 1.0
        assert resident() - before <= 16 * MiB
        assert await get(supervisor) == b"good"


# --- row 51 ------------------------------------------------------------------------------------------------------------

MALFORMED = {
    "truncated": b"\x0a\x05ab",
    "unknown wire type": b"\x0f",
    "varint without end": b"\x0a" + b"\xff" * 11,
    "field number 0": b"\x02\x00",
    "length beyond the end": b"\x0a\xff\xff\xff\xff\x07",
    "end of a group that never began": b"\x0c",
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
async def test_row_51_malformed_protobuf_in_a_unary_reply(supervise: Supervise, peer: Peer, payload: bytes) -> None:
    """Bytes that are no message raise DecodeError, never a half-filled message or None, and the channel goes on."""
    spec = peer("call", GET, "answer", "call", escaped(payload), "call", "-", "answer", "call", VALUE)  # fmt: skip
    async with supervise(spec) as supervisor:
        with pytest.raises(DecodeError) as caught:
            await get(supervisor)
        assert caught.value.plugin == "evil"
        assert await get(supervisor) == b"good"


async def test_row_51_malformed_protobuf_in_a_stream(supervise: Supervise, peer: Peer) -> None:
    """In a stream, the messages before the malformed one arrive, then DecodeError; the channel goes on."""
    route = escaped(hpack.Encoder().encode([(":path", FOLLOW)])[1:])
    spec = peer("call", route, "headers", "call", "message", "call", VALUE, "message", "call", "\\x0f",
                "call", "-", "answer", "call", VALUE)  # fmt: skip
    async with supervise(spec) as supervisor:
        channel: Any = await supervisor.dispense(lambda channel: channel)
        received = []
        with pytest.raises(DecodeError):
            async with channel.request(FOLLOW, Cardinality.UNARY_STREAM, GetRequest, GetResponse) as call:
                await call.send_message(GetRequest(key="a"), end=True)
                received += [message async for message in call]  # pragma: no branch
        assert await get(supervisor) == b"good"


# --- row 52 ------------------------------------------------------------------------------------------------------------

BREAKS_THE_CONNECTION = {
    "junk": ("send", "complete nonsense, and a good deal of it"),
    "HTTP/1 answer": ("send", "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"),
    "oversize frame": ("headers", "call", "send", "\\xff\\xff\\xff\\x00\\x00\\x00\\x00\\x00\\x01"),
    "bad HPACK index": ("frame", "1", "4", "call", "\\xff\\xff\\xff\\xff\\x0f"),
    "bad HPACK string": ("frame", "1", "4", "call", "\\x00\\x7fshort"),
    "HPACK table too large": ("frame", "1", "4", "call", "\\x3f\\xff\\xff\\xff\\x7f"),
    "DATA before HEADERS": ("message", "call", VALUE),
    "DATA on an idle stream": ("message", "99", VALUE),
    "DATA on stream 0": ("message", "0", VALUE),
    "HEADERS on an idle stream": ("headers", "98"),
    "PUSH_PROMISE, which was disabled": ("frame", "5", "4", "call", "\\x00\\x00\\x00\\x02\\x88"),
    "WINDOW_UPDATE by 0": ("frame", "8", "0", "0", "\\x00\\x00\\x00\\x00"),
    "WINDOW_UPDATE past the end": ("frame", "8", "0", "0", "\\x7f\\xff\\xff\\xff"),
    "SETTINGS of 5 bytes": ("frame", "4", "0", "0", "12345"),
    "SETTINGS on a stream": ("frame", "4", "0", "call", ""),
    "SETTINGS with an impossible window": ("frame", "4", "0", "0", "\\x00\\x04\\xff\\xff\\xff\\xff"),
    "SETTINGS with an impossible frame size": ("frame", "4", "0", "0", "\\x00\\x05\\x00\\x00\\x00\\x01"),
    "PING of 3 bytes": ("frame", "6", "0", "0", "abc"),
    "CONTINUATION of nothing": ("frame", "9", "4", "call", "\\x88"),
    "another frame in a block of headers": ("frame", "1", "0", "call", "\\x88", "frame", "6", "0", "0", "12345678"),
    "padding beyond the end": ("headers", "call", "frame", "0", "8", "call", "\\xffab"),
    "HEADERS twice": ("headers", "call", "headers", "call"),
    "flood of PING": ("flood", "\\x00\\x00\\x08\\x06\\x00\\x00\\x00\\x00\\x0012345678", "20000"),
    "flood of SETTINGS": ("flood", "\\x00\\x00\\x00\\x04\\x00\\x00\\x00\\x00\\x00", "20000"),
    "flood of GOAWAY": ("flood", "\\x00\\x00\\x08\\x07\\x00\\x00\\x00\\x00\\x00\\x7f\\xff\\xff\\xff\\x00\\x00\\x00\\x00", "20000"),
    "flood of unknown frames": ("flood", "\\x00\\x00\\x00\\xbe\\x00\\x00\\x00\\x00\\x00", "20000"),
    "RST_STREAM on stream 0": ("frame", "3", "0", "0", "\\x00\\x00\\x00\\x00"),
}  # fmt: skip


@pytest.mark.parametrize("deeds", BREAKS_THE_CONNECTION.values(), ids=BREAKS_THE_CONNECTION)
async def test_row_52_broken_http2_ends_the_instance(
    supervise: Supervise, peer: Peer, log: Log, deeds: tuple[str, ...]
) -> None:
    """A peer that breaks HTTP/2 fails the call with a typed error at once, and its process is replaced.

    Bar: all of it within 1 s.
    """
    spec = peer("call", GET, *deeds)
    async with supervise(spec) as supervisor:
        await supervisor.ready()
        ended = asyncio.create_task(exit_of(supervisor))
        begun = time.monotonic()
        with pytest.raises((TransportError, PluginCrashedError)) as caught:
            await get(supervisor, timeout=5)
        assert not isinstance(caught.value, DeadlineExceededError)
        assert caught.value.plugin == "evil"
        report = await ended
        assert time.monotonic() - begun <= 1.0
        assert report.reason is ExitReason.PROTOCOL
        assert isinstance(report.error, ProtocolViolationError)


BREAKS_THE_CALL = {
    "truncated message": ("headers", "call", "frame", "0", "0", "call", "\\x00\\x00\\x00\\x00\\x64abc", "trailers", "call", "0"),
    "prefix cut short": ("headers", "call", "frame", "0", "0", "call", "\\x00\\x00", "trailers", "call", "0"),
    "compressed message": ("headers", "call", "frame", "0", "0", "call", "\\x01\\x00\\x00\\x00\\x01a", "trailers", "call", "0"),
    "OK without a message": ("headers", "call", "trailers", "call", "0"),
    "two messages to a unary call": ("headers", "call", "message", "call", VALUE, "message", "call", VALUE, "trailers", "call", "0"),
    "no status": ("headers", "call", "message", "call", VALUE, "frame", "0", "1", "call", ""),
    "status that is no number": ("headers", "call", "message", "call", VALUE, "trailers", "call", "fine"),
    "status that nobody knows": ("headers", "call", "message", "call", VALUE, "trailers", "call", "4711"),
    "HTTP error": ("frame", "1", "5", "call", "\\x00\\x07:status\\x03503"),
    "no HTTP status": ("frame", "1", "5", "call", "\\x00\\x01a\\x01b"),
    "RST_STREAM": ("frame", "3", "0", "call", "\\x00\\x00\\x00\\x02"),
}  # fmt: skip


@pytest.mark.parametrize("deeds", BREAKS_THE_CALL.values(), ids=BREAKS_THE_CALL)
async def test_row_52_broken_grpc_fails_the_call_alone(
    supervise: Supervise, peer: Peer, deeds: tuple[str, ...]
) -> None:
    """An answer that breaks the rules of gRPC fails its call with a typed error, and the connection goes on."""
    spec = peer("call", GET, *deeds, "call", "-", "answer", "call", VALUE)  # fmt: skip
    async with supervise(spec) as supervisor:
        await supervisor.ready()
        begun = time.monotonic()
        with pytest.raises((TransportError, GRPCError)) as caught:
            await get(supervisor, timeout=5)
        assert not isinstance(caught.value, DeadlineExceededError)
        assert not isinstance(caught.value, GRPCError) or caught.value.status in {Status.UNAVAILABLE, Status.UNKNOWN}
        assert time.monotonic() - begun <= 1.0
        assert await get(supervisor, timeout=5) == b"good"


async def test_row_52_window_of_nothing(supervise: Supervise, peer: Peer) -> None:
    """A peer that gives no window lets no request out: the call ends with its deadline, not later."""
    spec = peer("frame", "4", "0", "0", "\\x00\\x04\\x00\\x00\\x00\\x00", "call", GET, "call", "-")  # fmt: skip
    async with supervise(spec) as supervisor:
        await supervisor.ready()
        begun = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await get(supervisor, timeout=0.3)
        assert time.monotonic() - begun <= 0.8


async def test_row_52_bad_preface(supervise: Supervise, evil: Peer) -> None:
    """A peer that greets with nonsense is no plugin: its start fails with the reason `connect`, within 1 s."""
    begun = time.monotonic()
    spec = evil(*GREETED[:-1], "send", "PRI * HTTP/3.0\\r\\n\\r\\nXX\\r\\n\\r\\n", "hang", restart=ONE_LIFE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert time.monotonic() - begun <= 1.0
    assert report.reason is ExitReason.CONNECT


async def test_row_52_repeated_violations_end_in_failed(supervise: Supervise, peer: Peer, log: Log) -> None:
    """A plugin that breaks the protocol in life after life is given up on, and calls say so.

    Bar: each error within 0.2 s; the median of the lives.
    """
    policy = RestartPolicy(intensity=RestartIntensity(limit=4, period=60), backoff=Backoff(initial=0))
    spec = peer("call", GET, "send", "junk and more junk", restart=policy)
    async with supervise(spec) as supervisor:
        took = []
        for _ in range(5):
            await supervisor.ready()
            begun = time.monotonic()
            with pytest.raises((TransportError, PluginCrashedError)):
                await get(supervisor)
            took.append(time.monotonic() - begun)
        assert statistics.median(took) <= 0.2
        with pytest.raises(PluginFailedError) as caught:
            await get(supervisor)
        plugin = supervisor.plugin("evil")
        assert (plugin.state, plugin.generation) == (State.FAILED, 5)
        assert caught.value.report is not None
        assert caught.value.report.reason is ExitReason.PROTOCOL


# --- row 54 ------------------------------------------------------------------------------------------------------------


async def test_row_54_goaway_in_mid_flight(supervise: Supervise, peer: Peer) -> None:
    """After a GOAWAY the calls that it covers finish, those above it fail unexecuted, and new ones find the next life.

    Bar: 1 s for those in flight.
    """
    deeds = ("call", GET, "mark", "call", "-", "goaway", "first", "0", "answer", "first", VALUE)
    async with supervise(peer(*deeds, restart=RestartPolicy())) as supervisor:
        stub = await supervisor.dispense(KvStub)
        begun = time.monotonic()
        covered, above = await asyncio.gather(
            stub.get(GetRequest(key="a")), stub.get(GetRequest(key="b")), return_exceptions=True
        )
        assert time.monotonic() - begun <= 1.0
        assert isinstance(covered, GetResponse)
        assert covered.value == b"good"
        assert isinstance(above, ConnectionLostError | PluginUnavailableError)
        assert not above.maybe_executed
        # The next life answers its first call too, once there is a second.
        again = await asyncio.gather(
            stub.get(GetRequest(key="c")), stub.get(GetRequest(key="d")), return_exceptions=True
        )
        assert isinstance(again[0], GetResponse)
        assert supervisor.plugin("evil").generation == 2


async def test_row_54_goaway_with_an_error_ends_the_instance(supervise: Supervise, peer: Peer) -> None:
    """A GOAWAY with an error code fails what is in flight, typed, within 1 s, and the instance ends."""
    spec = peer("call", GET, "goaway", "call", "2")
    async with supervise(spec) as supervisor:
        await supervisor.ready()
        ended = asyncio.create_task(exit_of(supervisor))
        begun = time.monotonic()
        with pytest.raises((ConnectionLostError, PluginCrashedError)):
            await get(supervisor)
        assert time.monotonic() - begun <= 1.0
        assert (await ended).reason is ExitReason.PROTOCOL
