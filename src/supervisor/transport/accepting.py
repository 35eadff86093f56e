"""The server's side of the `grpclib` engine: a task for each call of a connection."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from grpclib.const import Status
from grpclib.protocol import AbstractHandler
from grpclib.protocol import Stream as H2Stream

from supervisor.transport.protocol import WireProtocol, wire_configuration
from supervisor.transport.service import Service
from supervisor.transport.serving import refuse, serve_call
from supervisor.transport.stream import Headers, WireStream
from supervisor.transport.under_way import STOPPING, CallsUnderWay

__all__ = ["accept_client"]


def accept_client(service: Service, under_way: CallsUnderWay, *, calls_in_flight: int) -> WireProtocol:
    """Return the protocol for one more client of `service`."""
    handler = _CallHandler(service, under_way)
    return WireProtocol(handler, wire_configuration(), client_side=False, limit=calls_in_flight)


class _WireCall:
    """A call of the `grpclib` engine."""

    def __init__(self, task: asyncio.Task[None], wire: WireStream) -> None:
        self._task = task
        self._wire = wire

    def cut(self) -> None:
        """Answer it at once, and cancel its handler."""
        refuse(self._wire, Status.UNAVAILABLE, STOPPING)
        self._task.cancel()


class _CallHandler(AbstractHandler):
    """The calls of one connection: a task each."""

    def __init__(self, service: Service, under_way: CallsUnderWay) -> None:
        self._service = service
        self._under_way = under_way
        self._tasks: dict[H2Stream, asyncio.Task[None]] = {}

    def accept(self, stream: H2Stream, headers: Headers, release_stream: Any) -> None:
        """Start a call."""
        wire, under_way = cast("WireStream", stream), self._under_way
        calls = under_way.among(dict(headers).get(":path", ""))
        if under_way.draining and calls is under_way.counted:
            refuse(wire, Status.UNAVAILABLE, STOPPING)
            release_stream()
            return
        task = asyncio.get_running_loop().create_task(serve_call(self._service, wire, headers))
        self._tasks[stream] = task
        call = _WireCall(task, wire)
        calls.add(call)

        def finish(task: asyncio.Task[None]) -> None:
            self._finish(wire, task, release_stream)
            calls.discard(call)
            if not calls:
                under_way.tell()

        task.add_done_callback(finish)

    def _finish(self, wire: WireStream, task: asyncio.Task[None], release_stream: Any) -> None:
        self._tasks.pop(wire, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._service.on_error("", error)
        if wire.closable:
            # Cancelled, or answered before the client had sent all: the client is to stop.
            refuse(wire, Status.CANCELLED, "the call was cancelled by the server")
        release_stream()

    def cancel(self, stream: H2Stream) -> None:
        """End a call that its client has reset."""
        if (task := self._tasks.get(stream)) is not None:
            task.cancel()

    def close(self) -> None:
        """End the calls: the connection has ended."""
        for task in tuple(self._tasks.values()):
            task.cancel()
