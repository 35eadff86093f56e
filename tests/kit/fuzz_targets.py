"""What a peer may send, thrown at what reads it: each target takes any bytes, and returns unless something is wrong.

Whatever the bytes are, only typed errors may come of them, in steps and in memory in proportion to their number. `tests/fuzz`
runs the targets on what hypothesis makes up, and with `run.py` on what atheris finds.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType
from typing import Any

import betterproto
from grpclib.const import Cardinality
from hpack import Decoder
from hpack.exceptions import HPACKError
from wire_record import REQUEST, RESPONSE, Recorder, client, server

from supervisor.errors import DecodeError, MessageTooLargeError, ProtocolViolationError, SupervisorError
from supervisor.testing.transport_contract import Blob, ContractService
from supervisor.transport.codec import MessageCodec
from supervisor.transport.engine import frames
from supervisor.transport.engine.answering import ServerProtocol
from supervisor.transport.engine.calling import ClientProtocol
from supervisor.transport.engine.channel import EngineChannel
from supervisor.transport.engine.compression import unpack
from supervisor.transport.engine.details import StatusDetailsCodec
from supervisor.transport.engine.faults import WireViolationError
from supervisor.transport.engine.frames import frame, header_frames
from supervisor.transport.engine.headers import BlockDecoder
from supervisor.transport.engine.metadata import MalformedMetadataError, decode_metadata, decode_timeout
from supervisor.transport.engine.request import read_request
from supervisor.transport.engine.response import read_end, read_head
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.server import Server

__all__ = ["SEEDS", "TARGETS", "bounded"]

_LIMIT = 1 << 16
_SETTINGS = {"message_size": _LIMIT, "header_list": 1 << 13, "control_burst": 200, "control_rate": 0.0}
_STEPS_PER_BYTE = 60
_STEPS = 20_000


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Fail when the body makes more calls of functions than so many bytes are worth."""
    left = _STEPS + _STEPS_PER_BYTE * size

    def count(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal left
        left -= event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
    assert left >= 0, f"{size} bytes took {-left} steps too many"


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut bytes as their first one says."""
    size = data[0] * 3 + 1 if data else 1
    for at in range(1, len(data), size):
        yield data[at : at + size]


def kept(recorder: Recorder) -> int:
    """Return how many bytes of a peer's a connection keeps."""
    connection = recorder.connection
    waiting = connection._pieces_size if connection._pieces else 0
    waiting += connection._block_size if connection._block is not None else 0
    for stream in recorder.opened.values():
        waiting += sum(map(len, stream._parts or ())) + sum(map(len, stream.messages))
    return waiting


# --- frames ------------------------------------------------------------------------------------------------------------


def _receive(recorder: Recorder, data: bytes) -> None:
    sent = 0
    with suppress(WireViolationError):
        for piece in pieces(data):
            sent += len(piece)
            recorder.connection.receive(piece)
            assert kept(recorder) <= sent + 64, "more is kept than came"
            assert len(recorder.written) <= 10 * sent + 256, "more is answered than came"
    for stream in recorder.opened.values():
        assert all(len(message) <= _LIMIT for message in stream.messages)


def server_frames(data: bytes) -> None:
    """A server is sent frames by a client that has begun as it should."""
    recorder = server(**_SETTINGS)
    recorder.connection.receive(header_frames(1, REQUEST, end=False, frame_size=16_384))
    recorder.written = b""
    _receive(recorder, data)


def client_frames(data: bytes) -> None:
    """A client with three calls under way is sent frames."""
    recorder = client(**_SETTINGS)
    for _ in range(3):
        recorder.open()
    recorder.written = b""
    _receive(recorder, data)


def first_bytes(data: bytes) -> None:
    """Either side is sent bytes from the first one on."""
    recorder = Recorder(client_side=bool(data[:1] and data[0] & 1), settings=WireSettings(**_SETTINGS))  # type: ignore[arg-type] # of the right types
    _receive(recorder, data)


def mutated_frames(data: bytes) -> None:
    """What a connection normally hears, with bytes changed, left out, repeated and put in."""
    record = bytearray(TRAFFIC[bool(data[:1] and data[0] & 1)])
    for at in range(1, len(data) - 3, 4):
        what, where, value = data[at], int.from_bytes(data[at + 1 : at + 3], "big") % max(1, len(record)), data[at + 3]
        match what % 4:
            case 0:
                record[where : where + 1] = bytes((value,))
            case 1:
                del record[where : where + value]
            case 2:
                record[where:where] = record[where : where + value]
            case _:
                record[where:where] = data[at + 4 : at + 4 + value]
    recorder = client(**_SETTINGS) if data[:1] and data[0] & 1 else server(**_SETTINGS)
    if data[:1] and data[0] & 1:
        for _ in range(3):
            recorder.open()
    recorder.written = b""
    _receive(recorder, data[:1] + bytes(record))


def _message(data: bytes, *, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(data)) + data


_REQUESTS = b"".join(
    (
        frames.settings([(frames.Setting.INITIAL_WINDOW_SIZE, 100_000), (frames.Setting.HEADER_TABLE_SIZE, 0)]),
        frame(frames.SETTINGS, frames.ACK, 0),
        header_frames(1, REQUEST, end=False, frame_size=16_384),
        frame(frames.DATA, 0, 1, _message(b"one")),
        frame(frames.DATA, frames.PADDED, 1, b"\2" + _message(b"two")[:6] + b"\0\0"),
        frame(frames.DATA, frames.END_STREAM, 1, _message(b"two")[6:]),
        frame(frames.PING, 0, 0, b"12345678"),
        frame(frames.HEADERS, frames.PRIORITY_FIELDS, 3, b"\0\0\0\0\5" + REQUEST[:4]),
        frame(frames.CONTINUATION, frames.END_HEADERS, 3, REQUEST[4:]),
        frame(frames.DATA, frames.END_STREAM, 3, _message(b"x" * 300, compressed=1)),
        header_frames(5, b"\x40\x01k\x01v\xbe" + REQUEST, end=False, frame_size=16_384),
        frame(frames.DATA, frames.END_STREAM, 5, _message(b"x" * 30)),
        frames.window_update(0, 1000),
        frames.rst_stream(5, 8),
        frames.goaway(0, 0, b"bye"),
    )
)
_RESPONSES = b"".join(
    (
        frames.settings([(frames.Setting.MAX_CONCURRENT_STREAMS, 10), (frames.Setting.MAX_HEADER_LIST_SIZE, 8192)]),
        frame(frames.SETTINGS, frames.ACK, 0),
        *(
            header_frames(stream, RESPONSE, end=False, frame_size=16_384)
            + frame(frames.DATA, 0, stream, _message(b"reply"))
            + header_frames(stream, b"\0\x0bgrpc-status\x010", end=True, frame_size=16_384)
            for stream in (1, 3)
        ),
        header_frames(5, b"\x08\x03103", end=False, frame_size=16_384),
        header_frames(5, RESPONSE, end=False, frame_size=16_384),
        frame(frames.DATA, 0, 5, _message(b"x" * 100)[:50]),
        frames.window_update(5, 1000),
        frames.rst_stream(5, 7),
    )
)
TRAFFIC = (_REQUESTS, _RESPONSES)


# --- header blocks -----------------------------------------------------------------------------------------------------


def header_blocks(data: bytes) -> None:
    """Blocks, each behind a byte that is its length, are read as hpack reads them."""
    decoder, judge = BlockDecoder(table_size=4096, list_size=8192), Decoder(max_header_list_size=8192)
    judge.max_allowed_table_size = judge.header_table_size = 4096
    at = 0
    while at < len(data):
        block = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        try:
            found = decoder.decode(block).fields
        except WireViolationError:
            return
        try:
            expected = tuple(judge.decode(block, raw=True))
        except (HPACKError, IndexError, ValueError):
            raise AssertionError(f"{block!r} is no block, and was read as {found!r}") from None
        assert found == expected


def header_fields(data: bytes) -> None:
    """What fields say, of requests and of responses."""
    try:
        block = BlockDecoder(table_size=4096, list_size=8192).decode(data)
    except WireViolationError:
        return
    request = read_request(block, ContractService().__mapping__(), b"proto")
    assert request.refusal is not None or request.method is not None
    with suppress(MalformedMetadataError):
        decode_metadata(block.fields)
    for read in (read_end, lambda block: read_head(block, b"proto")):
        block.view = None
        read(block)
    for _, value in block.fields:
        with suppress(MalformedMetadataError):
            assert decode_timeout(value) >= 0


# --- messages ----------------------------------------------------------------------------------------------------------


class Colour(betterproto.Enum):
    """An enum."""

    NONE = 0
    RED = 1
    BLUE = -7


# ruff: noqa: RUF009 - betterproto's way to say it
@dataclass(eq=False, repr=False)
class Sample(betterproto.Message):
    """A message with fields of every kind."""

    int32: int = betterproto.int32_field(1)
    sint64: int = betterproto.sint64_field(2)
    fixed32: int = betterproto.fixed32_field(3)
    double: float = betterproto.double_field(4)
    flag: bool = betterproto.bool_field(5)
    text: str = betterproto.string_field(6)
    data: bytes = betterproto.bytes_field(7)
    colour: Colour = betterproto.enum_field(8)
    packed: list[int] = betterproto.uint64_field(9)
    texts: list[str] = betterproto.string_field(10)
    counts: dict[str, int] = betterproto.map_field(11, betterproto.TYPE_STRING, betterproto.TYPE_INT32)
    parts: dict[int, Sample] = betterproto.map_field(12, betterproto.TYPE_INT64, betterproto.TYPE_MESSAGE)
    inner: Sample = betterproto.message_field(13)
    inners: list[Sample] = betterproto.message_field(14)
    maybe: int | None = betterproto.int64_field(15, optional=True)
    one: int = betterproto.uint32_field(16, group="either")
    other: str = betterproto.string_field(17, group="either")
    at: datetime = betterproto.message_field(18)
    took: timedelta = betterproto.message_field(19)
    wrapped: int | None = betterproto.message_field(20, wraps=betterproto.TYPE_INT32)
    floats: list[float] = betterproto.float_field(21)
    colours: list[Colour] = betterproto.enum_field(22)


_CODEC = MessageCodec(max_size=_LIMIT)


def messages(data: bytes) -> None:
    """A message is read or refused; what is read is written and read again as the same."""
    try:
        found = _CODEC.decode(data, Sample)
    except (DecodeError, MessageTooLargeError):
        return
    again = _CODEC.encode(found, Sample)
    assert _CODEC.encode(_CODEC.decode(again, Sample), Sample) == again


def compressed_messages(data: bytes) -> None:
    """Gzip is unpacked within the limit."""
    with suppress(ProtocolViolationError, MessageTooLargeError):
        assert len(unpack(data, b"gzip", _LIMIT)) <= _LIMIT
    with suppress(DecodeError, MessageTooLargeError):
        StatusDetailsCodec().decode(None, None, data)  # type: ignore[arg-type] # it does not look


# --- both sides with all that is above them ----------------------------------------------------------------------------


class Socket(asyncio.Transport):
    """Takes whatever is written."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.size = 0

    def write(self, data: Any) -> None:
        self.size += len(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


async def _settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def _run(body: Callable[[list[Any]], Any]) -> None:
    told: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        await body(told)

    asyncio.run(main())
    assert not told, told


def served(data: bytes) -> None:
    """A server with handlers is sent a client's bytes; no handler stays behind, and nothing is told to the loop."""

    async def body(told: list[Any]) -> None:
        own = Server([ContractService()], on_error=lambda *_: None)
        protocol = ServerProtocol(own._service, WireSettings(**_SETTINGS), own.under_way)  # type: ignore[arg-type] # of the right types
        socket = Socket()
        protocol.connection_made(socket)
        protocol.data_received(frames.PREFACE + frames.settings(()))
        for piece in pieces(data):
            if socket.closed:
                break
            protocol.data_received(piece)
            await _settle()
        protocol.connection_lost(None)
        await _settle()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left
        assert (own.in_flight, protocol.running, told) == (0, 0, [])

    _run(body)


def called(data: bytes) -> None:
    """A client's calls get a server's bytes: each ends, with a reply or a typed error."""

    async def body(told: list[Any]) -> None:
        protocol = ClientProtocol(WireSettings(**_SETTINGS))  # type: ignore[arg-type] # of the right types
        socket = Socket()
        protocol.connection_made(socket)
        protocol.data_received(frames.settings(()) + frame(frames.SETTINGS, frames.ACK, 0))
        channel = EngineChannel(protocol, name="fuzz", authority="fuzz", limits=Server([]).limits)

        async def stream() -> None:
            async with channel.request("/a/b", Cardinality.STREAM_STREAM, Blob, Blob) as call:
                await call.send_message(Blob(b"x"))
                async for _ in call:
                    pass

        calls = [asyncio.ensure_future(channel.unary("/a/b", Blob(b"x"), Blob)), asyncio.ensure_future(stream())]
        await _settle()
        for piece in pieces(data):
            protocol.data_received(piece)
            await _settle()
        protocol.connection_lost(None)
        for found in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(found, BaseException):
                assert isinstance(found, SupervisorError) or type(found).__name__ == "GRPCError", repr(found)
        assert (len(channel.calls), told) == (0, [])

    _run(body)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        server_frames,
        client_frames,
        first_bytes,
        mutated_frames,
        header_blocks,
        header_fields,
        messages,
        compressed_messages,
        served,
        called,
    )
}

_CONTRACT = b"".join(
    header_frames(
        stream,
        b"\x83\x86\0\5:path%c/supervisor.testing.Contract/%b\0\2te\x08trailers\0\x0ccontent-type\x10application/grpc"
        % (len(method) + 29, method),
        end=False,
        frame_size=16_384,
    )
    + frame(frames.DATA, frames.END_STREAM, stream, _message(body))
    for stream, method, body in ((1, b"Echo", b"x"), (3, b"Repeat", b"3:x"), (5, b"Relay", b"x"), (7, b"Hang", b""))
)

SEEDS: dict[str, tuple[bytes, ...]] = {
    "server_frames": (b"\xff" + _REQUESTS[len(frames.settings(())) :],),
    "client_frames": (b"\xff" + _RESPONSES,),
    "first_bytes": (b"\xfe" + frames.PREFACE + _REQUESTS, b"\xff" + _RESPONSES),
    "header_blocks": (bytes((len(REQUEST),)) + REQUEST, b"\x03\x3f\xe1\x1f", b"\x06\x40\x01k\x01v\xbe"),
    "header_fields": (REQUEST, RESPONSE, b"\0\x0bgrpc-status\x010", b"\0\x0cgrpc-timeout\x0210S", b"\0\5x-bin\4AAAA"),
    "messages": (bytes(Sample(int32=1, text="a", packed=[1, 2], counts={"a": 1}, inner=Sample(one=0), maybe=0)),),
    "served": (b"\xff" + _CONTRACT, b"\x0f" + _CONTRACT),
    "called": (b"\xff" + _RESPONSES, b"\x0f" + _RESPONSES),
}
"""Bytes that get far into a target, to begin from."""
