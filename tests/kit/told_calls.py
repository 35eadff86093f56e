"""How a client of another implementation is told which calls to make, a line of JSON each, and how it tells what came of them.

A message is told as `{"text": ...}` or, of `pattern`, as `{"size": ...}`; a received one as its size and its checksum.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from dataclasses import dataclass
from typing import Any

from grpc_peer import KINDS, ROUTE, pattern

__all__ = ["Told", "answered", "fields", "read_call", "report", "say"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A call to be made.

    Attributes:
        target: where the server is, as grpcio writes it.
        channel: a name; calls of the same name share a connection.
        tls: the folder with the certificates; None for plain text.
        kind: `unary_unary` and so on.
        in_turn: whether a message is read after each one that is sent.
        cancel_after: how many messages are read before the call is cancelled.
        parallel: how many of it are made at once.
        pings: whether the connection is to be kept alive by pings every 50 ms.
        close: whether the connection is to be closed behind it.
    """

    route: str
    kind: str
    target: str
    channel: str
    tls: str | None
    requests: list[bytes]
    metadata: list[tuple[str, Any]]
    timeout: float | None
    gzip: bool
    in_turn: bool
    cancel_after: int | None
    parallel: int
    pings: bool
    close: bool
    patience: float = 10.0

    def say_begun(self) -> None:
        """Say that the call is under way."""
        say("begun")


def read_call(line: str) -> Told:
    """Return the call that a line tells of."""
    said = json.loads(line)
    kind = KINDS.get(said["method"])
    client, server = ("stream" if kind and side else "unary" for side in (kind and kind.client_streaming, kind and kind.server_streaming))  # fmt: skip
    return Told(
        route=ROUTE + said["method"],
        kind=f"{client}_{server}",
        target=said["target"],
        channel=said["channel"],
        tls=said.get("tls"),
        requests=[pattern(part["size"]) if "size" in part else part["text"].encode() for part in said["requests"]],
        metadata=[
            (key, base64.b64decode(value) if key.endswith("-bin") else value) for key, value in said.get("metadata", ())
        ],
        timeout=said.get("timeout"),
        gzip=said.get("gzip", False),
        in_turn=said.get("in_turn", False),
        cancel_after=said.get("cancel_after"),
        parallel=said.get("parallel", 1),
        pings=said.get("pings", False),
        close=said.get("close", False),
    )


def answered(messages: list[bytes]) -> dict[str, Any]:
    """Return what is told of the messages received."""
    return {"received": [[len(message), zlib.crc32(message)] for message in messages]}


def fields(metadata: Any) -> list[list[str]]:
    """Return what is told of metadata."""
    return [
        [key, base64.b64encode(value).decode() if isinstance(value, bytes) else value]
        for key, value in metadata or ()
        if key.startswith("x-")
    ]


def say(what: Any) -> None:
    """Say something, on a line of its own."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def report(results: list[dict[str, Any]]) -> None:
    """Say what came of calls."""
    say(results)
