"""Rows 36 to 38 of the fault table: the host's signals, and what becomes of its plugins.

Hosts here are processes of their own: `asyncio.run` around a supervisor, as an application has it.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from witness import Witness

HOST = Path(__file__).parent / "signalled_host.py"
EVIL = Path(__file__).parent.parent / "evil" / "evil_plugin.py"

SERVING = ("listen", "{dir}/s", "handshake", "{dir}/s", "accept", "greet")
STUBBORN = ("ignore", "15", "ignore", "2")

PATIENT: Mapping[str, float] = {"drain": 0, "shutdown": 0.05, "terminate": 30}
BRISK: Mapping[str, float] = {"drain": 0, "shutdown": 0.05, "terminate": 0.2}


class Host:
    """A host process and what it says."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._unread: list[dict[str, Any]] = []

    def told(self, key: str) -> dict[str, Any]:
        """Return the first thing said about `key` that was not returned yet, waiting for it."""
        assert self.process.stdout is not None
        for what in self._unread:
            if key in what:
                self._unread.remove(what)
                return what
        for line in self.process.stdout:
            self._unread.append(json.loads(line))
            if key in self._unread[-1]:
                return self._unread.pop()
        pytest.fail(f"the host ended with {self.process.wait()} and said nothing of {key!r}")

    def until_rung(self, rung: str) -> None:
        """Wait until the stop of the plugin has come to a rung."""
        while self.told("rung")["rung"] != rung:
            pass

    def signal(self, number: int) -> None:
        """Send the host a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; bounded."""
        return self.process.wait(20)


@contextmanager
def start_host(
    *deeds: str, on_sigterm: str = "default", stop: Mapping[str, float] = BRISK, before: tuple[str, ...] = (), **io: Any
) -> Iterator[Host]:
    """Start a host whose plugin does as it is told and then hangs; kill it in the end."""
    plugin = (sys.executable, "-I", "-S", str(EVIL), *deeds, "hang")
    command = (*before, sys.executable, str(HOST), on_sigterm, json.dumps(stop), *plugin)
    process = subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, **io})
    with process:
        try:
            yield Host(process)
        finally:
            process.kill()


# --- row 36 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way", [signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV, signal.SIGABRT], ids=lambda way: way.name
)
def test_row_36_host_that_dies_leaves_nobody(witness: Witness, way: signal.Signals) -> None:
    """A host that a signal ends without a word leaves no plugin 100 ms later, and nobody of its family a second later."""
    with start_host("family", *SERVING) as host:
        pids = json.loads(host.told("said")["said"])
        leader = Witness()
        with closing(leader):
            leader.watch(host.told("plugin")["plugin"])
            witness.watch(*pids.values())
            host.signal(way)
            assert host.wait() == -way
            assert leader.survivors(within=0.1) == set()
        assert witness.survivors(within=1) == set()


# --- row 37 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM], ids=lambda way: way.name)
def test_row_37_first_signal_stops_in_order(witness: Witness, way: signal.Signals) -> None:
    """One SIGINT, or one SIGTERM that the application turns into a cancellation, climbs the ladder in its graces."""
    with start_host(*SERVING, on_sigterm="cancel") as host:
        witness.watch(host.told("plugin")["plugin"])
        host.signal(way)
        ended = host.told("reason")
        assert host.wait() != 0
        assert witness.survivors() == set()
    assert (ended["reason"], ended["signal"]) == ("stopped", signal.SIGTERM)
    assert ended["rungs"] == ["drain", "shutdown", "terminate"]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=lambda way: way.name)
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM], ids=lambda way: way.name)
def test_row_37_second_signal_kills_at_once(witness: Witness, first: signal.Signals, second: signal.Signals) -> None:
    """A second signal, while a stubborn plugin still has 30 s, ends plugin, family and host within a second."""
    with start_host("family", *STUBBORN, *SERVING, on_sigterm="cancel", stop=PATIENT) as host:
        witness.watch(*json.loads(host.told("said")["said"]).values(), host.told("plugin")["plugin"])
        host.signal(first)
        host.until_rung("terminate")
        assert witness.survivors() != set()
        began = time.monotonic()
        host.signal(second)
        assert host.wait() != 0
        assert witness.survivors(within=1) == set()
        assert time.monotonic() - began <= 1


# --- row 38 ------------------------------------------------------------------------------------------------------------


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a terminal: our side and the other."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def test_row_38_interrupt_at_the_terminal_is_for_the_host(witness: Witness) -> None:
    """Ctrl-C typed at a real terminal reaches its foreground group: the host, which stops its plugin, and not the plugin."""
    listening = ("tell", "2", *SERVING)
    with terminal() as (ours, theirs), start_host(*listening, before=("setsid", "--ctty"), stdin=theirs) as host:
        ready = host.told("plugin")
        witness.watch(ready["plugin"])
        assert os.tcgetpgrp(ours) == ready["group"]
        os.write(ours, b"\x03")
        ended = host.told("reason")
        assert host.wait() == -signal.SIGINT
    assert (ended["reason"], ended["signal"]) == ("stopped", signal.SIGTERM)
    assert not any("SIGINT" in line for line in ended["stderr"])


def test_row_38_plugin_would_have_told_of_an_interrupt(witness: Witness) -> None:
    """The same plugin does tell of a SIGINT that is sent to it: the silence of the other test means something."""
    with start_host("tell", "2", *SERVING) as host:
        plugin = host.told("plugin")["plugin"]
        witness.watch(plugin)
        os.kill(plugin, signal.SIGINT)
        assert host.told("said")["said"] == "got SIGINT"
        host.signal(signal.SIGINT)
        assert "got SIGINT" in host.told("reason")["stderr"]
