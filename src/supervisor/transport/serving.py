"""The life of one call on the server's side: from the request's headers to the status."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import grpclib.server
from grpclib.const import Status
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline, decode_metadata, encode_grpc_message
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from supervisor.errors import DecodeError, MessageTooLargeError, ProtocolViolationError, TransportError
from supervisor.transport.framing import CompressedError, read_message, write_message
from supervisor.transport.incoming import IncomingCall, set_current_call
from supervisor.transport.refused_size import LIMIT_KEY, SIZE_KEY
from supervisor.transport.service import Service
from supervisor.transport.stream import Headers, WireStream
from supervisor.transport.translate import Translator

__all__ = ["ServerStream", "refuse", "serve_call"]


class ServerStream(grpclib.server.Stream[Any, Any]):
    """One call, as a grpclib handler sees it; messages have a limit, and their faults are statuses."""

    _stream: WireStream

    def __init__(self, wire: WireStream, *args: Any, message_size: int, **options: Any) -> None:
        super().__init__(wire, *args, **options)
        self._message_size = message_size
        self._translated = Translator(lambda: True)

    async def recv_message(self) -> Any:
        """Wait for the next request message; None when the client has sent all.

        Raises:
            GRPCError: the message is too large, compressed or not one; the call ends with that status.
        """
        try:
            message = await read_message(self._stream, self._codec, self._recv_type, self._message_size)
        except MessageTooLargeError as error:
            raise _refusal(error) from error
        except CompressedError as error:
            raise GRPCError(Status.UNIMPLEMENTED, str(error)) from error
        except (DecodeError, ProtocolViolationError) as error:
            raise GRPCError(Status.INTERNAL, str(error)) from error
        if message is None:
            return None
        (message,) = await self._dispatch.recv_message(message)
        self._messages_received += 1
        return message

    async def send_message(self, message: Any) -> None:
        """Send a response message, after the headers if they were not sent.

        Raises:
            GRPCError: the message is over the limit.
        """
        if not self._send_initial_metadata_done:
            await self.send_initial_metadata()
        if self._send_message_done and not self._cardinality.server_streaming:
            raise ProtocolViolationError("a unary call was answered twice")
        (message,) = await self._dispatch.send_message(message)
        try:
            with self._translated:
                await write_message(self._stream, self._codec, message, self._send_type, self._message_size)
        except MessageTooLargeError as error:
            raise _refusal(error) from error
        self._send_message_done = True
        self._messages_sent += 1


def _refusal(error: MessageTooLargeError) -> GRPCError:
    refusal = GRPCError(Status.RESOURCE_EXHAUSTED, str(error.args[0]))
    refusal.__cause__ = error
    return refusal


async def serve_call(service: Service, wire: WireStream, headers: Headers) -> None:
    """Answer one call; never raises but when it is cancelled."""
    fields = dict(headers)
    problem = _problem(service, fields)
    if problem is not None:
        status, message, http_status = problem
        refuse(wire, status, message, http_status=http_status)
        return
    try:
        metadata, deadline = decode_metadata(headers), Deadline.from_headers(headers)
    except (ValueError, UnicodeError) as error:
        refuse(wire, Status.INTERNAL, f"the request's headers cannot be read: {error}")
        return
    method = service.methods[fields[":path"]]
    stream = ServerStream(
        wire, fields[":path"], method.cardinality, method.request_type, method.reply_type,
        codec=service.codec, status_details_codec=service.details_codec, dispatch=service.dispatch,
        deadline=deadline, user_agent=fields.get("user-agent"), message_size=service.message_size,
    )  # fmt: skip
    stream.metadata = metadata
    await _run(service, stream, wire, IncomingCall(fields[":path"], metadata, stream.peer, deadline, stream))


def _problem(service: Service, fields: Mapping[str, str]) -> tuple[Status, str, int] | None:
    """Return status, message and HTTP status when the request is not one that can be served."""
    content_type = fields.get("content-type", "")
    kind, _, subtype = content_type.partition("+")
    if fields.get(":method") != "POST":
        return Status.INTERNAL, "a gRPC request is a POST", 405
    if kind != GRPC_CONTENT_TYPE or (subtype or "proto") != service.codec.__content_subtype__:
        return Status.INTERNAL, f"content-type {content_type!r} is not served here", 415
    if fields.get("te") != "trailers":
        return Status.INTERNAL, "the request lacks 'te: trailers'", 400
    if fields.get("grpc-encoding", "identity") != "identity":
        return Status.UNIMPLEMENTED, f"grpc-encoding {fields['grpc-encoding']!r} is not served here", 200
    if fields.get(":path") not in service.methods:
        return Status.UNIMPLEMENTED, f"unknown method {fields.get(':path')}", 200
    return None


async def _run(service: Service, stream: ServerStream, wire: WireStream, call: IncomingCall) -> None:
    """Run the handler and send the status that follows from how it ends."""
    method = service.methods[call.method]
    remaining = None if call.deadline is None else call.deadline.time_remaining()
    error: BaseException | None = None
    set_current_call(call)
    try:
        async with asyncio.timeout(remaining) as limit:
            stream.metadata, func = await service.dispatch.recv_request(
                call.metadata, method.func, method_name=call.method, deadline=call.deadline,
                content_type=GRPC_CONTENT_TYPE, user_agent=stream.user_agent, peer=call.peer,
            )  # fmt: skip
            await func(stream)
    except GRPCError as status:
        error = status
    except TimeoutError as timeout:
        error = GRPCError(Status.DEADLINE_EXCEEDED, "the deadline passed") if limit.expired() else timeout
    except Exception as other:  # noqa: BLE001 - whatever a handler raises becomes a status
        error = other
    if wire.wrapper.failed:
        return  # the client is gone, and what the handler made of that concerns nobody
    if error is not None and not isinstance(error, GRPCError):
        service.on_error(call.method, error)
        error = GRPCError(Status.UNKNOWN, "Internal Server Error")
    await _send_status(service, stream, call, error)


async def _send_status(service: Service, stream: ServerStream, call: IncomingCall, error: GRPCError | None) -> None:
    if stream._send_trailing_metadata_done or stream._cancel_done:  # noqa: SLF001 - ServerStream is ours
        return
    if error is None and not stream._cardinality.server_streaming and not stream._send_message_done:  # noqa: SLF001
        service.on_error(call.method, ProtocolViolationError("the handler of a unary response sent none"))
        error = GRPCError(Status.UNKNOWN, "Internal Server Error")
    trailers: dict[str, str] = {}
    if error is not None and isinstance(cause := error.__cause__, MessageTooLargeError):
        trailers = {SIZE_KEY: str(cause.size), LIMIT_KEY: str(cause.limit)}
    # The client may reset the call or go away meanwhile: then nobody waits for the status.
    with suppress(TransportError, H2Error):
        await stream.send_trailing_metadata(
            status=Status.OK if error is None else error.status,
            status_message=None if error is None else error.message,
            status_details=None if error is None else error.details,
            metadata=trailers,
        )


def refuse(wire: WireStream, status: Status, message: str, *, http_status: int = 200) -> None:
    """Answer a call with a status, without waiting for the peer to read, and end it both ways.

    A call that was answered is only ended: a client that still sends is told to stop. One that has ended stays so.
    """
    if not wire.closable:
        return
    if not wire.finished:
        headers: Headers = [("grpc-status", str(status.value)), ("grpc-message", encode_grpc_message(message))]
        if not wire.headers_sent:
            headers = [(":status", str(http_status)), ("content-type", GRPC_CONTENT_TYPE), *headers]
        wire.send_headers_nowait(headers, end_stream=True)
    wire.reset_nowait(ErrorCodes.NO_ERROR)
