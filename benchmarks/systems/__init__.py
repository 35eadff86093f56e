"""The systems that are compared, each with its client's side; a module is imported only in its own client process."""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Protocol, Self, cast

__all__ = ["SYSTEMS", "System", "load"]

SYSTEMS = {
    "ours": "a stub that the supervisor dispensed, of a plugin that it supervises",
    "bare": "a channel and a server of this library's, supervised by nobody",
    "raw_asyncio": "asyncio with this library's codec and no gRPC: the limit",
    "stock_grpclib": "grpclib and betterproto as they come",
    "grpc_aio": "grpcio's asyncio interface and google.protobuf",
}
"""Name, which is the module's too → what it is."""


class System(Protocol):
    """A server in a process of its own, and a way to call it; up while entered."""

    @property
    def server_pids(self) -> tuple[int, ...]:
        """The processes that serve, whose CPU time counts."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def call(self) -> bytes:
        """Make one unary call and return the value."""
        ...


def load(name: str) -> System:
    """Return a system by its name, not yet up."""
    return cast("System", importlib.import_module(f"benchmarks.systems.{name}").make())
