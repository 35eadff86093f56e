"""A supervised plugin, called through the stubs that an application gets."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.contract import PROJECT, KvStub, LoadStub
from benchmarks.systems.betterproto_calls import BetterprotoCalls
from supervisor import PluginSpec, Supervisor

__all__ = ["connect"]


@asynccontextmanager
async def connect(_: str, loop: str) -> AsyncIterator[BetterprotoCalls]:
    """Supervise it, everything at its defaults: deadline of each call, health probe, log stream, limits."""
    spec = PluginSpec(
        name="store",
        command=(sys.executable, "-m", "benchmarks.servers.ours", loop),
        cwd=str(PROJECT),
        # How this process finds the package, when it is not installed; plugins do not inherit that.
        env={name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
    )
    async with Supervisor([spec], observers=()) as supervisor:  # nobody watches the events of a benchmark
        kv, load = await supervisor.dispense("store", KvStub), await supervisor.dispense("store", LoadStub)
        pid = supervisor.plugin("store").pid
        assert pid is not None
        yield BetterprotoCalls(kv, load, (pid,))
