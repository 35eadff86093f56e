"""What every fault test is held to, whatever its row of the table: the global invariants."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watching import Log
from witness import Witness

from supervisor import PluginSpec, Supervisor

EVIL = Path(__file__).parent.parent / "evil" / "evil_plugin.py"
"""A program of the standard library alone that does what its arguments say; see there."""


@pytest.fixture(autouse=True)
def invariants(nothing_left: None, no_orphan_left: None, no_task_left: None) -> None:
    """Hold every test in this folder to leaving nothing behind."""


@pytest.fixture
def log() -> Iterator[Log]:
    """Return an observer; afterwards every instance that was launched must have ended exactly once."""
    log = Log()
    yield log
    log.assert_each_launch_ended_once()


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Return who can tell which processes are gone; it kills what a failed test would leave."""
    witness = Witness()
    yield witness
    witness.close()


@pytest.fixture
def evil() -> Callable[..., PluginSpec]:
    """Return a function that makes the specification of an evil plugin: `evil("hang", name="bad", start_timeout=1)`."""

    def make(*deeds: str, name: str = "evil", **fields: Any) -> PluginSpec:
        return PluginSpec(**{"name": name, "command": (sys.executable, "-I", "-S", str(EVIL), *deeds), **fields})

    return make


@pytest.fixture
def kv() -> Callable[..., PluginSpec]:
    """Return a function that makes the specification of a well-behaved plugin of our own sdk: `kv(name="store")`."""

    def make(*arguments: str, name: str = "store", **fields: Any) -> PluginSpec:
        program = Path(__file__).parent / "kv_plugin.py"
        return PluginSpec(**{"name": name, "command": (sys.executable, str(program), *arguments), **fields})

    return make


@pytest.fixture
def supervise(log: Log) -> Callable[..., Supervisor]:
    """Return a function that makes a supervisor of real processes, observed by `log`."""

    def make(*specs: PluginSpec, **options: Any) -> Supervisor:
        return Supervisor(specs, **{"observers": [log], **options})

    return make
