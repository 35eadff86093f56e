"""Calls made by grpcio: `calls_by_grpcio.py sync|aio`; see `peers` for what it hears and says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped] # grpcio ships no types
import grpc.aio  # type: ignore[import-untyped] # the same
from told_calls import Told, answered, fields, read_call, report

BIG = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PINGS = [
    ("grpc.keepalive_time_ms", 50),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


def open_channel(told: Told, package: Any) -> Any:
    """Return a channel of `grpc` or of `grpc.aio`."""
    options = [*BIG, *(PINGS if told.pings else ())]
    if told.tls is None:
        return package.insecure_channel(told.target, options=options)
    folder = Path(told.tls)
    authority, key, certificate = ((folder / name).read_bytes() for name in ("authority.pem", "peer.key", "peer.pem"))
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    options.append(("grpc.ssl_target_name_override", "localhost"))
    return package.secure_channel(told.target, credentials, options=options)


def options_of(told: Told) -> dict[str, Any]:
    """Return the options of a call."""
    compression = grpc.Compression.Gzip if told.gzip else None
    return {"timeout": told.timeout, "metadata": told.metadata or None, "compression": compression}


def ended(code: Any, text: str | None, initial: Any, trailing: Any) -> dict[str, Any]:
    """Return what is said of a call's end."""
    found = {"code": code.value[0], "message": text or "", "initial": fields(initial), "trailing": fields(trailing)}
    for key, value in trailing or ():
        if key == "grpc-status-details-bin":
            found["details"] = base64.b64encode(value).decode()
    return found


def call_sync(channel: Any, told: Told) -> dict[str, Any]:
    """Make a call, on this thread."""
    method = getattr(channel, told.kind)(told.route)
    unary_request = told.kind.startswith("unary")
    more = threading.Event()

    def requests() -> Any:
        for count, data in enumerate(told.requests):
            if told.in_turn and count:
                more.wait(told.patience)
                more.clear()
            yield data
        if told.cancel_after is not None:
            more.wait(told.patience)

    received: list[bytes] = []
    given = told.requests[0] if unary_request else requests()
    call: Any = None
    try:
        if told.kind.endswith("unary"):
            if told.cancel_after is not None:
                call = method.future(given, **options_of(told))
                told.say_begun()
                call.cancel()
                call.result()
            reply, call = method.with_call(given, **options_of(told))
            received.append(reply)
        else:
            call = method(given, **options_of(told))
            for reply in call:
                received.append(reply)
                more.set()
                if told.cancel_after == len(received):
                    call.cancel()
    except grpc.FutureCancelledError:
        return {**answered(received), "code": 1, "message": ""}
    except grpc.RpcError as error:
        more.set()
        return {
            **answered(received),
            **ended(error.code(), error.details(), error.initial_metadata(), error.trailing_metadata()),
        }
    return {
        **answered(received),
        **ended(call.code(), call.details(), call.initial_metadata(), call.trailing_metadata()),
    }


async def call_aio(channel: Any, told: Told) -> dict[str, Any]:
    """Make a call, as a task."""
    method = getattr(channel, told.kind)(told.route)
    unary_request = told.kind.startswith("unary")
    call = method(*told.requests[:1] if unary_request else (), **options_of(told))
    received: list[bytes] = []
    with contextlib.suppress(grpc.RpcError, asyncio.CancelledError, asyncio.InvalidStateError):  # the status says it
        await exchange_aio(call, told, received)
    code, text = await call.code(), await call.details()
    initial = trailing = ()
    if code is not grpc.StatusCode.CANCELLED:
        initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    return {**answered(received), **ended(code, text, initial, trailing)}


async def exchange_aio(call: Any, told: Told, received: list[bytes]) -> None:
    """Send and receive all there is."""

    async def read() -> bool:
        reply = await call.read()
        if reply is grpc.aio.EOF:
            return False
        received.append(reply)
        if told.cancel_after == len(received):
            call.cancel()
        return True

    if not told.kind.startswith("unary"):
        for data in told.requests:
            await call.write(data)
            if told.in_turn and not await read():
                return
        if told.cancel_after is None or told.kind.endswith("unary"):
            await call.done_writing()
    if told.kind.endswith("unary"):
        if told.cancel_after is not None:
            told.say_begun()
            await asyncio.sleep(0.05)
            call.cancel()
        received.append(await call)
    else:
        while await read():
            pass


def main_sync() -> None:
    """Make the calls that are told, those of one line at once."""
    channels: dict[str, Any] = {}
    with ThreadPoolExecutor(128) as threads:
        for line in sys.stdin:
            told = read_call(line)
            channel = channels.get(told.channel)
            if channel is None:
                channel = channels[told.channel] = open_channel(told, grpc)
            report(list(threads.map(lambda _, c=channel, t=told: call_sync(c, t), range(told.parallel))))
            if told.close:
                channels.pop(told.channel).close()
        for channel in channels.values():
            channel.close()


async def main_aio() -> None:
    """Make the calls that are told, those of one line at once."""
    channels: dict[str, Any] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        told = read_call(line)
        if told.channel not in channels:
            channels[told.channel] = open_channel(told, grpc.aio)
        channel = channels[told.channel]
        report(await asyncio.gather(*(call_aio(channel, told) for _ in range(told.parallel))))
        if told.close:
            await channels.pop(told.channel).close()
    for channel in channels.values():
        await channel.close()


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        main_sync()
    else:
        asyncio.run(main_aio())
