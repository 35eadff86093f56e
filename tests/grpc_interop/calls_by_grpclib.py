"""Calls made by stock grpclib; see `peers` for what it hears and says."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

from grpc_peer import KINDS, Details
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from told_calls import Told, answered, fields, read_call, report

from supervisor.testing.transport_contract import Blob
from supervisor.tls import TlsFiles
from supervisor.transport.tls import load_contexts


def open_channel(told: Told) -> Channel:
    """Return a channel."""
    network, _, rest = told.target.partition(":")
    options: dict[str, Any] = {"status_details_codec": Details()}
    if told.tls is not None:
        folder = Path(told.tls)
        files = (str(folder / name) for name in ("peer.pem", "peer.key", "authority.pem"))
        tls = load_contexts(TlsFiles(**dict(zip(("certificate", "key", "authority"), files, strict=True))))
        options.update(ssl=tls.client, config=Configuration(ssl_target_name_override="localhost"))
    if network == "unix":
        return Channel(path=rest, **options)
    return Channel(network, int(rest), **options)


async def call(channel: Channel, told: Told) -> dict[str, Any]:
    """Make a call."""
    received: list[bytes] = []
    kind = KINDS.get(told.route.rpartition("/")[2], KINDS["Echo"])
    code, text, details = 0, "", None
    stream = channel.request(told.route, kind, Blob, Blob, timeout=told.timeout, metadata=told.metadata)
    try:
        async with stream:
            await exchange(stream, told, received)
    except GRPCError as error:
        code, text, details = error.status.value, error.message or "", error.details
    except asyncio.CancelledError:
        code = 1
    except TimeoutError:
        code = 4
    except (StreamTerminatedError, ProtocolError, OSError) as error:
        code, text = 14, str(error)
    found = {"code": code, "message": text, "details": base64.b64encode(details).decode() if details else None}
    found["initial"] = fields((stream.initial_metadata or {}).items())
    found["trailing"] = fields((stream.trailing_metadata or {}).items())
    return {**answered(received), **found}


async def exchange(stream: Any, told: Told, received: list[bytes]) -> None:
    """Send and receive all there is."""
    await stream.send_request()
    for number, data in enumerate(told.requests, 1):
        last = number == len(told.requests) and told.cancel_after is None and not told.in_turn
        await stream.send_message(Blob(data), end=last or told.kind.startswith("unary"))
        if told.in_turn:
            reply = await stream.recv_message()
            if reply is None:
                return
            received.append(reply.data)
    if told.in_turn or not told.requests:
        await stream.end()
    if told.cancel_after == 0:
        told.say_begun()
        await asyncio.sleep(0.05)
        raise asyncio.CancelledError
    while (reply := await stream.recv_message()) is not None:
        received.append(reply.data)
        if told.cancel_after == len(received):
            raise asyncio.CancelledError


async def main() -> None:
    """Make the calls that are told, those of one line at once."""
    channels: dict[str, Channel] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        told = read_call(line)
        if told.channel not in channels:
            channels[told.channel] = open_channel(told)
        channel = channels[told.channel]
        report(await asyncio.gather(*(call(channel, told) for _ in range(told.parallel))))
        if told.close:
            channels.pop(told.channel).close()
    for channel in channels.values():
        channel.close()


if __name__ == "__main__":
    asyncio.run(main())
