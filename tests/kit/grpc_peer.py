"""What the peers of other gRPC implementations and ours do for each other: a service of raw bytes, and how calls are told.

`interop.Peer`, served alike by every implementation:

| method | kind | what it does |
|---|---|---|
| `Echo` | unary | returns the request; what the caller sent as `x-...` comes back in the headers and in the trailers; gzipped, if the caller sent `x-zip` |
| `Down` | server stream | `count:size`: so many messages of a pattern |
| `Up` | client stream | returns `count:bytes:checksum` of what it received |
| `Relay` | bidirectional | returns each message; ends at `stop`, fails with ABORTED at `fail` |
| `Fail` | unary | fails with the status, the message and the details that the request holds as JSON |
| `Hang` | unary | never answers; `Follow` is the same for a stream that has sent one message |
| `Ended` | unary | waits until the hanging call of that token was cancelled |
| `Left` | unary | returns the milliseconds until the deadline, or `none` |
"""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Iterable
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline

from supervisor.testing.transport_contract import Blob

__all__ = ["CANCELLED", "KINDS", "ROUTE", "Peer", "echoed", "pattern", "summary"]

ROUTE = "/interop.Peer/"
CANCELLED = b"cancelled"

KINDS = {
    "Echo": Cardinality.UNARY_UNARY,
    "Down": Cardinality.UNARY_STREAM,
    "Up": Cardinality.STREAM_UNARY,
    "Relay": Cardinality.STREAM_STREAM,
    "Fail": Cardinality.UNARY_UNARY,
    "Hang": Cardinality.UNARY_UNARY,
    "Follow": Cardinality.STREAM_STREAM,
    "Ended": Cardinality.UNARY_UNARY,
    "Left": Cardinality.UNARY_UNARY,
}

_BLOCK = bytes(range(251))
_PATIENCE = 5.0


def pattern(size: int) -> bytes:
    """Return so many bytes of which no two places of a frame are alike."""
    return (_BLOCK * (size // len(_BLOCK) + 1))[:size]


def summary(messages: Iterable[bytes]) -> bytes:
    """Return what `Up` says of what it received."""
    count, size, checksum = 0, 0, 0
    for message in messages:
        count, size, checksum = count + 1, size + len(message), zlib.crc32(message, checksum)
    return f"{count}:{size}:{checksum}".encode()


def echoed(metadata: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return what `Echo` gives back of a caller's metadata."""
    return [(key, value) for key, value in metadata if key.startswith("x-") and key != "x-zip"]


class Details(StatusDetailsCodecBase):
    """A status's details as bytes that this side does not look into, as grpclib's `status_details_codec`."""

    def encode(self, status: Status, message: str | None, details: bytes) -> bytes:
        return details

    def decode(self, status: Status, message: str | None, data: bytes) -> bytes:
        return data


class Peer:
    """The service for our server, and for grpclib's own."""

    def __init__(self) -> None:
        self._ended: dict[bytes, asyncio.Future[None]] = {}

    def __mapping__(self) -> dict[str, Handler]:
        return {
            ROUTE + name: Handler(getattr(self, f"serve_{name.lower()}"), kind, Blob, Blob)
            for name, kind in KINDS.items()
        }

    async def serve_echo(self, stream: Any) -> None:
        request = await stream.recv_message()
        if "x-zip" in stream.metadata and hasattr(stream, "compress"):
            stream.compress()
        back = echoed(stream.metadata.items())
        await stream.send_initial_metadata(metadata=back)
        await stream.send_message(request)
        await stream.send_trailing_metadata(metadata=back)

    async def serve_down(self, stream: Any) -> None:
        count, size = map(int, (await stream.recv_message()).data.split(b":"))
        for _ in range(count):
            await stream.send_message(Blob(pattern(size)))

    async def serve_up(self, stream: Any) -> None:
        await stream.send_message(Blob(summary([message.data async for message in stream])))

    async def serve_relay(self, stream: Any) -> None:
        async for message in stream:
            if message.data == b"stop":
                return
            if message.data == b"fail":
                raise GRPCError(Status.ABORTED, "enough")
            await stream.send_message(message)

    async def serve_fail(self, stream: Any) -> None:
        said = json.loads((await stream.recv_message()).data)
        details = self.details(base64.b64decode(said["details"])) if said.get("details") else None
        raise GRPCError(Status(said["code"]), said["message"], details)

    def details(self, data: bytes) -> Any:
        """Return a status's details as the server's codec for them takes them."""
        return data

    async def serve_hang(self, stream: Any) -> None:
        await self._wait((await stream.recv_message()).data)

    async def serve_follow(self, stream: Any) -> None:
        message = await stream.recv_message()
        await stream.send_message(Blob(b"begun"))
        await self._wait(message.data)

    async def _wait(self, token: bytes) -> None:
        ended = self._ended.setdefault(token, asyncio.get_running_loop().create_future())
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if not ended.done():
                ended.set_result(None)

    async def serve_ended(self, stream: Any) -> None:
        token = (await stream.recv_message()).data
        ended = self._ended.setdefault(token, asyncio.get_running_loop().create_future())
        await asyncio.wait([ended], timeout=_PATIENCE)
        await stream.send_message(Blob(CANCELLED if ended.done() else b""))

    async def serve_left(self, stream: Any) -> None:
        await stream.recv_message()
        deadline: Deadline | None = stream.deadline
        left = b"none" if deadline is None else b"%d" % (deadline.time_remaining() * 1000)
        await stream.send_message(Blob(left))
