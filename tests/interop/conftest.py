"""Fixtures of the interop suite: the Go programs, built once, and both sides of an exercise. See peers.py."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import peers
import pytest
from peers import GoHost, MakeSpec, Step


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the Go programs, built once for the run."""
    if shutil.which("go") is None:
        assert not os.environ.get("SUPERVISOR_REQUIRE_GO"), "SUPERVISOR_REQUIRE_GO is set and there is no Go"
        pytest.skip("there is no Go on this machine")
    folder = tmp_path_factory.mktemp("go")
    peers.build(folder)
    return folder


@pytest.fixture
def go_plugin(go: Path) -> MakeSpec:
    """Return a function that makes the specification of a Go plugin: `go_plugin("relay", "-tcp", "{go}/kv")`."""
    return partial(peers.go_plugin, go)


@pytest.fixture
def python_plugin() -> MakeSpec:
    """Return a function that makes the specification of a program beside this file: `python_plugin("served_kv.py")`."""
    return peers.python_plugin


@pytest.fixture
def go_host(go: Path) -> GoHost:
    """Return a function that runs an exercise of the Go host with a Python plugin: `go_host("kv", "-mux", plugin="served_kv.py")`.

    It returns the steps; one that failed has `ok` false and says why.
    """

    def run(exercise: str, *flags: str, plugin: str, arguments: tuple[str, ...] = ()) -> list[Step]:
        return peers.go_host(go, exercise, *flags, command=peers.python_command(plugin, *arguments))

    return run
