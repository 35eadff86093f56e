"""Twenty of the thousand launches and stops that thousand.py makes in each direction."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import thousand


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


@pytest.mark.parametrize("direction", thousand.DIRECTIONS)
def test_lives_leave_nothing(go: Path, direction: str) -> None:
    """No step fails; no process, socket, file, directory or descriptor is left."""
    lives = thousand.live(direction, go, 20)

    assert (lives.count, lives.failed, lives.left) == (20, 0, ())


def test_what_is_left_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process, a socket, a file, a directory and a descriptor are each told of."""
    left: list[subprocess.Popen[bytes] | socket.socket] = []

    def litter(go: Path, count: int) -> int:
        corner = Path(os.environ["TMPDIR"])
        (corner / "directory").mkdir()
        (corner / "directory" / "file").touch()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(corner / "socket"))
        left.extend((listener, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)))
        return 1

    monkeypatch.setitem(thousand._LIVES, "litters", litter)
    try:
        lives = thousand.live("litters", tmp_path, 1)
    finally:
        for each in left:
            if isinstance(each, subprocess.Popen):
                each.communicate()
            else:
                each.close()

    assert lives.failed == 1
    assert {each.split()[0] for each in lives.left} == {"process", "socket", "file", "directory", "descriptor"}
