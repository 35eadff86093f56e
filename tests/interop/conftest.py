"""Programs built with the real hashicorp/go-plugin: plugins for our host, a host for our plugins. See go/README.md."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor import PluginSpec
from supervisor.policy import Restart, RestartPolicy
from supervisor.spec import MagicCookie

HERE = Path(__file__).parent

COOKIE = MagicCookie(key="BASIC_PLUGIN", value="hello")
"""The cookie of go-plugin's own examples."""

PYTHONPATH = os.pathsep.join([*sys.path, str(HERE.parents[1] / "examples" / "kv")])
"""So that plugins find this library wherever the tests found it, and the contracts beside them."""

PATIENCE = 120.0
"""Seconds for a Go program; reached only by a test that fails."""

Step = dict[str, Any]


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the Go programs, built once for the run; Go's cache makes it a matter of seconds."""
    if shutil.which("go") is None:
        assert not os.environ.get("SUPERVISOR_REQUIRE_GO"), "SUPERVISOR_REQUIRE_GO is set and there is no Go"
        pytest.skip("there is no Go on this machine")
    folder = tmp_path_factory.mktemp("go")
    built = subprocess.run(
        ["go", "build", "-o", str(folder), "./..."],
        cwd=HERE / "go",
        stderr=subprocess.PIPE,
        text=True,
        timeout=900,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def go_plugin(go: Path) -> Callable[..., PluginSpec]:
    """Return a function that makes the specification of a Go plugin: `go_plugin("relay", "-tcp", "{go}/kv")`."""

    def make(program: str, *arguments: str, **fields: Any) -> PluginSpec:
        command = (str(go / program), *(argument.replace("{go}", str(go)) for argument in arguments))
        return PluginSpec(**{"name": "peer", "command": command, "cookie": COOKIE, "restart": ONCE, **fields})

    return make


@pytest.fixture
def python_plugin() -> Callable[..., PluginSpec]:
    """Return a function that makes the specification of a program beside this file: `python_plugin("served_kv.py")`."""

    def make(program: str, *arguments: str, env: dict[str, str] | None = None, **fields: Any) -> PluginSpec:
        command = (sys.executable, str(HERE / program), *arguments)
        environment = {"PYTHONPATH": PYTHONPATH, **(env or {})}
        options = {"name": "peer", "cookie": COOKIE, "restart": ONCE, "env": environment, **fields}
        return PluginSpec(**{"command": command, **options})

    return make


@pytest.fixture
def go_host(go: Path) -> Callable[..., list[Step]]:
    """Return a function that runs an exercise of the Go host with a Python plugin: `go_host("kv", "-mux", plugin="served_kv.py")`.

    It returns the steps; `steps` that failed have `ok` false and say why.
    """

    def run(exercise: str, *flags: str, plugin: str, arguments: tuple[str, ...] = ()) -> list[Step]:
        command = [str(go / "host"), exercise, *flags, "--", sys.executable, str(HERE / plugin), *arguments]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
            check=False,
        )
        assert done.returncode in {0, 1}, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


ONCE = RestartPolicy(restart=Restart.TEMPORARY)
"""So that a failure is seen as it is, and once."""
