"""Repairs for the run-time part of generated code: betterproto's and betterproto2's, which share these faults.

Their servicers never close a streaming handler's generator in the task that ran it, so that a handler with a task
group or a cancel scope inside is torn down in a foreign task. Their bidirectional stubs leak the task that sends the
requests, and hang when the caller's iterator raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from grpclib.const import Cardinality

__all__ = ["repair_servicer", "repair_stub"]

_RUNTIMES = ("betterproto", "betterproto2")
_STREAMING_HANDLER = "_call_rpc_handler_server_stream"

StubT = TypeVar("StubT")

_Requests = AsyncIterable[Any] | Iterable[Any]


def repair_servicer(servicer: object) -> None:
    """Make a servicer close its streaming handlers in the task that runs them; others are left alone."""
    if _is_of_runtime(servicer, _STREAMING_HANDLER):
        setattr(servicer, _STREAMING_HANDLER, _stream_responses)


def repair_stub(stub: StubT) -> StubT:
    """Make a stub's client-streaming calls end with the call; returns the stub. Others are left alone.

    Where the channel makes unary calls in one step, the stub's do.
    """
    if _is_of_runtime(stub, "_stream_stream"):
        repaired = _Streams(stub)
        setattr(stub, "_stream_unary", repaired.stream_unary)  # noqa: B010 - the name is betterproto's
        setattr(stub, "_stream_stream", repaired.stream_stream)  # noqa: B010
        unary = getattr(stub.channel, "unary", None)  # type: ignore[attr-defined] # the runtime's stubs have one
        if unary is not None:
            setattr(stub, "_unary_unary", _Unary(stub, unary).unary_unary)  # noqa: B010
    return stub


def _is_of_runtime(target: object, name: str) -> bool:
    """Whether `target` has method `name` from the runtime and not one that its author wrote."""
    method = getattr(type(target), name, None)
    return getattr(method, "__module__", "").partition(".")[0] in _RUNTIMES


async def _stream_responses(handler: Callable[[Any], Any], stream: Any, request: Any) -> None:
    responses = handler(request)
    if not isinstance(responses, AsyncIterable):
        responses.close()  # a coroutine: the method returned without yielding, an empty stream
        return
    iterator = aiter(responses)
    try:
        async for response in iterator:
            await stream.send_message(response)
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


class _Unary:
    """The unary calls of a stub, whose defaults hold where a call says nothing."""

    def __init__(self, stub: Any, unary: Callable[..., Any]) -> None:
        self._stub = stub
        self._unary = unary

    def unary_unary(
        self,
        route: str,
        request: Any,
        response_type: Any,
        *,
        timeout: Any = None,
        deadline: Any = None,
        metadata: Any = None,
    ) -> Any:
        """Return the awaitable reply."""
        stub = self._stub
        return self._unary(
            route, request, response_type,
            timeout=stub.timeout if timeout is None else timeout,
            deadline=stub.deadline if deadline is None else deadline,
            metadata=stub.metadata if metadata is None else metadata,
        )  # fmt: skip


class _Streams:
    """The calls of a stub whose requests stream."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def _request(self, route: str, cardinality: Cardinality, request: Any, response: Any, options: Any) -> Any:
        merged = {key: getattr(self._stub, key) if options.get(key) is None else options[key]
                  for key in ("timeout", "deadline", "metadata")}  # fmt: skip
        return self._stub.channel.request(route, cardinality, request, response, **merged)

    async def stream_unary(
        self, route: str, request_iterator: Any, request_type: Any, response_type: Any, **options: Any
    ) -> Any:
        """Send the requests while waiting for the response."""
        cardinality = Cardinality.STREAM_UNARY
        async with self._request(route, cardinality, request_type, response_type, options) as stream:
            await stream.send_request()
            async with _sending(stream, request_iterator):
                response = await stream.recv_message()
        return response

    async def stream_stream(
        self, route: str, request_iterator: Any, request_type: Any, response_type: Any, **options: Any
    ) -> AsyncIterator[Any]:
        """Send the requests while yielding the responses."""
        cardinality = Cardinality.STREAM_STREAM
        async with self._request(route, cardinality, request_type, response_type, options) as stream:
            await stream.send_request()
            async with _sending(stream, request_iterator):
                async for response in stream:
                    yield response


@asynccontextmanager
async def _sending(call: Any, requests: _Requests) -> AsyncIterator[None]:
    """Send `requests` in a task of its own for as long as the body runs; what they raise ends the call."""

    def report(sender: asyncio.Task[None]) -> None:
        if not sender.cancelled() and isinstance(error := sender.exception(), Exception):
            call.fail(error)

    sender = asyncio.create_task(_send(call, requests), name="send requests")
    sender.add_done_callback(report)
    try:
        yield
    finally:
        sender.cancel()
        await asyncio.wait({sender})


async def _send(call: Any, requests: _Requests) -> None:
    if isinstance(requests, AsyncIterable):
        iterator = aiter(requests)
        try:
            async for request in iterator:
                await call.send_message(request)
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
    else:
        for request in requests:
            await call.send_message(request)
    await call.end()
