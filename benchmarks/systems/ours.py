"""A supervised plugin, called through the stub that an application gets."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from benchmarks.contract import KEY, PROJECT, GetRequest, KvStub
from supervisor import PluginSpec, Supervisor

__all__ = ["Ours", "make"]


class Ours:
    """Everything at its defaults: deadline of each call, health probe, log stream, limits."""

    def __init__(self) -> None:
        spec = PluginSpec(
            name="store",
            command=(sys.executable, "-m", "benchmarks.servers.ours"),
            cwd=str(PROJECT),
            # How this process finds the package, when it is not installed; plugins do not inherit that.
            env={name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        )
        self._supervisor = Supervisor([spec], observers=())  # nobody watches the events of a benchmark

    async def __aenter__(self) -> Self:
        await self._supervisor.__aenter__()
        self._stub = await self._supervisor.dispense("store", KvStub)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._supervisor.__aexit__(kind, error, trace)

    @property
    def server_pids(self) -> tuple[int, ...]:
        pid = self._supervisor.plugin("store").pid
        assert pid is not None
        return (pid,)

    async def call(self) -> bytes:
        return (await self._stub.get(GetRequest(key=KEY))).value


def make() -> Ours:
    """Return the system, not yet up."""
    return Ours()
