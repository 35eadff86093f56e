"""An HTTP/2 peer that does what it is told, broken things included: for tests of what comes over the wire."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from typing import Any

from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hyperframe.frame import Frame

from supervisor.transport.http2 import PatientH2Connection, configuration

__all__ = ["RawPeer", "RawResponse", "message"]

Headers = list[tuple[str, str]]


def message(data: bytes, *, compressed: bool = False, size: int | None = None) -> bytes:
    """Return a gRPC message with its prefix; `size` lies about its length."""
    return struct.pack("!BI", compressed, len(data) if size is None else size) + data


class RawResponse:
    """What a stream has received.

    Attributes:
        headers: of the response and of the trailers, merged.
        data: all bytes of the body.
        ended: whether the peer ended the stream.
        reset: the error code with which the peer reset it.
    """

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.data = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int | None:
        """The gRPC status."""
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None


class RawPeer(asyncio.Protocol):
    """One end of a connection, spoken by hand. `h2` queues frames, `flush` sends them, `write` sends any bytes."""

    def __init__(self, *, client_side: bool = True, greet: bool = True) -> None:
        # Opens as many streams as it is told to, and goes on after a GOAWAY.
        self.h2 = PatientH2Connection(configuration(client_side=client_side), max_streams=100)
        self.responses: dict[int, RawResponse] = {}
        self.events: list[Event] = []
        self.went_away = False
        self.lost = False
        self._greet = greet
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._greet:
            self.h2.start()
            self.flush()

    def data_received(self, data: bytes) -> None:
        """Note what arrived."""
        if not self._greet:
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            self._note(event)
        self.flush()
        self._news.set()

    def _note(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.went_away = True
        response = self.responses.setdefault(getattr(event, "stream_id", None) or 0, RawResponse())
        match event:
            case ResponseReceived() | TrailersReceived():
                response.headers.update({str(key): str(value) for key, value in event.headers or ()})
            case DataReceived():
                response.data += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            case StreamEnded():
                response.ended = True
            case StreamReset():
                response.reset = int(event.error_code or 0)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Note the end."""
        self.lost = True
        self._news.set()

    def flush(self) -> None:
        """Send what h2 has queued."""
        self.transport.write(self.h2.data_to_send())

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)

    def frame(self, frame: Frame) -> None:
        """Send one frame as it is."""
        self.flush()
        self.write(frame.serialize())

    def request(
        self, path: str, body: bytes = b"", *, end: bool = True, headers: Mapping[str, str] | None = None
    ) -> int:
        """Send a request and return its stream; `headers` replace the usual ones, and an empty value leaves one out."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        fields.update(headers or {})
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, [(key, value) for key, value in fields.items() if value])
        self.h2.send_data(stream_id, body, end_stream=end)
        self.flush()
        return stream_id

    async def until(self, ready: Callable[[], Any], timeout: float = 5.0) -> None:
        """Wait until `ready()`, which is asked after each arrival.

        Raises:
            TimeoutError: it did not become so.
        """
        async with asyncio.timeout(timeout):
            while not ready():
                self._news.clear()
                await self._news.wait()

    async def response(self, stream_id: int) -> RawResponse:
        """Wait for the end of a response."""
        await self.until(lambda: self._over(stream_id))
        return self.responses[stream_id]

    def _over(self, stream_id: int) -> bool:
        response = self.responses.get(stream_id)
        return response is not None and (response.ended or response.reset is not None)
