"""A plugin with its host's terminal, on a real one: who types is heard by the plugin."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from witness import Witness

HOST = Path(__file__).parent / "terminal_host.py"

LEADER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, sys.argv[1]])
"""
"""Makes the terminal on its standard input its session's own, and becomes the host."""


@pytest.fixture(autouse=True)
def no_process_left(no_orphan_left: None) -> None:
    """Hold every test to leaving no process behind, whoever is its parent."""


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Return who can tell which processes are gone."""
    witness = Witness()
    yield witness
    witness.close()


class Terminal:
    """A host in a terminal, and whoever sits there."""

    def __init__(self) -> None:
        self.keyboard, self._screen = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEADER, str(HOST)],
            stdin=self._screen,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "TERM": "vt100"},
        )

    def told(self, key: str) -> Any:
        """Return what the host says next, which must be about `key`."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())[key]

    def seen(self, text: bytes) -> bytes:
        """Return what was shown up to `text`, waiting for it."""
        shown = b""
        while text not in shown:
            shown += os.read(self.keyboard, 1024)
        return shown

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.keyboard, text.encode())

    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self._screen)[3] & termios.ECHO)

    def close(self) -> None:
        """Switch it off."""
        self.process.kill()
        self.process.communicate(timeout=20)
        os.close(self.keyboard)
        os.close(self._screen)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Return a terminal in which a host runs."""
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_a_plugin_reads_what_is_typed_at_its_hosts_terminal(terminal: Terminal, witness: Witness) -> None:
    """`input`, and `getpass` on /dev/tty without an echo: it is in the terminal's foreground, with its host."""
    pid = terminal.told("pid")
    witness.watch(pid)
    assert terminal.told("tty") == {
        "stdin": True,
        "foreground": True,
        "group": terminal.process.pid,
        "term": "vt100",
    }
    assert terminal.told("asking") == "name"
    terminal.type("Ada\n")
    assert terminal.told("answer") == "Ada"
    assert terminal.told("asking") == "password"
    terminal.seen(b"password: ")
    assert not terminal.echoes()
    terminal.type("secret\n")
    assert terminal.told("answer") == "secret"
    assert b"secret" not in terminal.seen(b"\n")
    assert terminal.told("waiting")

    terminal.type("\x03")

    assert terminal.process.wait(20) != 0
    assert witness.survivors(within=20) == set()


def test_it_dies_with_a_host_that_is_killed(terminal: Terminal, witness: Witness) -> None:
    """Without a lifeline there are still the parent-death signal and the guard."""
    witness.watch(terminal.told("pid"))
    terminal.process.kill()
    assert witness.survivors(within=20) == set()


def test_hanging_up_the_terminal_leaves_nobody(witness: Witness) -> None:
    """The line goes dead: host and plugin hear of it like any two programs of a session."""
    terminal = Terminal()
    witness.watch(terminal.told("pid"))
    os.close(terminal._screen)
    os.close(terminal.keyboard)
    assert terminal.process.wait(20) != 0
    assert witness.survivors(within=20) == set()
    assert terminal.process.stdout is not None
    terminal.process.stdout.close()
