"""The two sides of an exercise: plugins for our host, and a Go host for any plugin. Without pytest, for the commands here.

The Go programs are built with the real hashicorp/go-plugin; see go/README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor import PluginSpec
from supervisor.policy import Restart, RestartPolicy
from supervisor.spec import MagicCookie

__all__ = [
    "COOKIE",
    "HERE",
    "PATIENCE",
    "PYTHONPATH",
    "GoHost",
    "MakeSpec",
    "Step",
    "build",
    "go_command",
    "go_host",
    "go_plugin",
    "python_command",
    "python_plugin",
]

HERE = Path(__file__).parent

COOKIE = MagicCookie(key="BASIC_PLUGIN", value="hello")
"""The cookie of go-plugin's own examples."""

PYTHONPATH = os.pathsep.join([*sys.path, str(HERE.parents[1] / "examples" / "kv")])
"""So that plugins find this library wherever the tests found it, and the contracts beside them."""

PATIENCE = 120.0
"""Seconds for a Go program; reached only by a test that fails."""

ONCE = RestartPolicy(restart=Restart.TEMPORARY)
"""So that a failure is seen as it is, and once."""

Step = dict[str, Any]
"""What the Go host says of one step."""

MakeSpec = Callable[..., PluginSpec]
GoHost = Callable[..., list[Step]]
"""What the fixtures `go_plugin` and `python_plugin`, and `go_host`, return."""


def build(folder: Path) -> None:
    """Build the Go programs into a folder; Go's cache makes it a matter of seconds. RuntimeError with what Go says."""
    built = subprocess.run(
        ["go", "build", "-o", str(folder), "./..."],
        cwd=HERE / "go",
        stderr=subprocess.PIPE,
        text=True,
        timeout=900,
        check=False,
    )
    if built.returncode:
        raise RuntimeError(built.stderr)


def go_command(go: Path, program: str, *arguments: str) -> tuple[str, ...]:
    """Return how a Go program is run; `{go}` in its arguments is the folder."""
    return (str(go / program), *(argument.replace("{go}", str(go)) for argument in arguments))


def python_command(program: str, *arguments: str) -> tuple[str, ...]:
    """Return how a program beside this file is run."""
    return (sys.executable, str(HERE / program), *arguments)


def go_plugin(go: Path, program: str, *arguments: str, **fields: Any) -> PluginSpec:
    """Return the specification of a Go plugin: `go_plugin(go, "relay", "-tcp", "{go}/kv")`."""
    return _specify(go_command(go, program, *arguments), fields)


def python_plugin(program: str, *arguments: str, env: Mapping[str, str] | None = None, **fields: Any) -> PluginSpec:
    """Return the specification of a program beside this file: `python_plugin("served_kv.py")`."""
    return _specify(python_command(program, *arguments), {"env": {"PYTHONPATH": PYTHONPATH, **(env or {})}, **fields})


def _specify(command: tuple[str, ...], fields: Mapping[str, Any]) -> PluginSpec:
    return PluginSpec(**{"name": "peer", "command": command, "cookie": COOKIE, "restart": ONCE, **fields})


def go_host(
    go: Path,
    exercise: str,
    *flags: str,
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> list[Step]:
    """Run an exercise of the Go host with a plugin and return its steps; one that failed has `ok` false and says why.

    Raises:
        RuntimeError: the host crashed, or a step did not end.
    """
    done = subprocess.run(
        [str(go / "host"), exercise, *flags, "--", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, **(env or {})},
        check=False,
    )
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"the Go host ended with {done.returncode}: {done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]
