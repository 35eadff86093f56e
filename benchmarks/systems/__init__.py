"""The systems that are compared, each with its client's side; a module is imported only in its own client process."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

__all__ = ["SYSTEMS", "Kind", "Pair", "System", "connect", "missing"]


class Pair(Protocol):
    """A server in a process of its own, and a way to call it."""

    @property
    def server_pids(self) -> tuple[int, ...]:
        """The processes that serve, whose CPU time counts."""
        ...

    async def call(self) -> bytes:
        """Make one unary call and return the value."""
        ...


class System(Pair, Protocol):
    """One that speaks gRPC, with all that comes with it."""

    async def call_dressed(self) -> bytes:
        """Make one unary call with a deadline and two items of metadata, one of which is unique."""
        ...

    def download(self, size: int, count: int) -> AsyncIterator[Any]:
        """Return a stream of so many items, each with a `payload` of so many bytes."""
        ...

    def make_item(self, payload: bytes) -> Any:
        """Return an item that `upload` takes."""
        ...

    async def upload(self, items: Iterable[Any]) -> int:
        """Stream items and return how many bytes of payload the server had."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What a system is.

    Attributes:
        about: what it is, for people.
        module: the module of this package that connects it.
        loop: the event loop of both processes.
        does: the kinds of workloads that it can do.
        needs: what has to be installed.
    """

    about: str
    module: str
    loop: str = "asyncio"
    does: frozenset[str] = frozenset({"unary", "dressed", "streams"})
    needs: tuple[str, ...] = ()


_UNARY = frozenset({"unary"})
_UNARY_DRESSED = frozenset({"unary", "dressed"})
_GRPCIO = ("grpc", "grpc_tools")

SYSTEMS = {
    "ours": Kind("a stub that the supervisor dispensed, of a plugin that it supervises", "ours"),
    "ours_uvloop": Kind("the same, host and plugin on uvloop", "ours", loop="uvloop", needs=("uvloop",)),
    "bare": Kind("a channel and a server of this library's, supervised by nobody", "bare"),
    "raw_asyncio": Kind("asyncio with this library's codec and no gRPC: the limit", "raw_asyncio", does=_UNARY),
    "raw_bytes": Kind("the same without a codec", "raw_asyncio", does=_UNARY),
    "stock_grpclib": Kind("grpclib and betterproto as they come", "stock_grpclib"),
    "grpc_aio": Kind("grpcio's asyncio interface and google.protobuf", "grpc_aio", needs=_GRPCIO),
    "grpc_aio_uvloop": Kind("the same on uvloop", "grpc_aio", loop="uvloop", needs=(*_GRPCIO, "uvloop")),
    "grpc_aio_to_ours": Kind("grpcio's client, and our plugin", "grpc_aio", needs=_GRPCIO),
    "process_pool": Kind("concurrent.futures.ProcessPoolExecutor, one worker", "process_pool", does=_UNARY),
    "go_plugin": Kind("hashicorp/go-plugin, host and plugin in Go", "go_plugin", does=_UNARY_DRESSED),
}
"""Name → what it is."""


def connect(name: str) -> AbstractAsyncContextManager[Pair]:
    """Return a context in which a system is up."""
    module = importlib.import_module(f"benchmarks.systems.{SYSTEMS[name].module}")
    return cast("AbstractAsyncContextManager[Pair]", module.connect(name, SYSTEMS[name].loop))


def missing(name: str) -> str | None:
    """Return why a system cannot run here, None when it can."""
    for package in SYSTEMS[name].needs:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return None
