"""What the host's tests share: nothing is left behind, and a contract to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisor import PluginSpec, Supervisor
from supervisor.testing.scripted import Script, ScriptedRunner


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_task_left: None) -> None:
    """Hold every test in this folder to leaving nothing behind."""


@pytest.fixture
def supervise() -> Callable[..., Supervisor]:
    """Return a function that makes a supervisor of scripted plugins: `supervise(script, name="store", **spec)`."""

    def make(script: Script, *more: PluginSpec, observers: Any = (), **fields: Any) -> Supervisor:
        options = {"name": "store", "command": ("scripted",), **fields}
        return Supervisor(
            [PluginSpec(**options), *more], observers=list(observers), runner=lambda: ScriptedRunner(script)
        )

    return make
