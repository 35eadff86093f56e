"""Fixtures that run real plugin programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from raw_host import RawHost

ECHO = """
async def on_call(text): return text.upper()
serve(Control(on_call))
"""


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., RawHost]]:
    """Return a function that starts a plugin program; by default one that answers in capitals. Gone after the test."""
    hosts: list[RawHost] = []

    def start_one(source: str = ECHO, **environment: str) -> RawHost:
        hosts.append(RawHost(source, tmp_path, **environment))
        return hosts[-1]

    yield start_one
    for host in hosts:
        await host.aclose()
