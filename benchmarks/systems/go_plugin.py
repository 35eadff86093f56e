"""hashicorp/go-plugin: one Go program, which is the host, takes workloads as our clients do, and is its own plugin.

It is built from the module proxy, into the user's cache and not into the tree; Go builds again what has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["build"]

_SOURCE = Path(__file__).parent.parent / "go"
_PATIENCE = 600.0
"""Seconds to fetch and build."""


def build() -> tuple[Path | None, str]:
    """Return the program; or None and why there is none."""
    if shutil.which("go") is None:
        return None, "there is no Go on this machine"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plugin-supervisor-benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / "go-plugin"
    command = ["go", "build", "-o", str(program), "."]
    try:
        done = subprocess.run(command, cwd=_SOURCE, stderr=subprocess.PIPE, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return None, f"go build took longer than {_PATIENCE:g} s"
    if done.returncode:
        return None, f"go build failed: {done.stderr.strip().splitlines()[-1]}"
    return program, ""
