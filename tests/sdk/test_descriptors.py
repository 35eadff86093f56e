"""Writing to a stderr that somebody may or may not read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from supervisor.sdk.descriptors import StderrWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return a pipe's ends; both are closed after the test, if they are not yet."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_lines_arrive(pipe: tuple[int, int]) -> None:
    """A line of several times PIPE_BUF arrives whole when somebody reads."""
    line = b"x" * 20_000 + b"\n"
    assert StderrWriter(pipe[1]).write(line)
    assert os.read(pipe[0], 65536) == line


def test_a_host_that_does_not_read_costs_one_wait(pipe: tuple[int, int]) -> None:
    """The writer waits a second at most, then drops at once, and is back as soon as there is room."""
    writer = StderrWriter(pipe[1])
    while writer.write(b"x" * 4095 + b"\n"):
        pass
    assert writer.dropped == 1
    started = time.monotonic()
    for _ in range(100):
        assert not writer.write(b"dropped\n")
    assert time.monotonic() - started < 0.5
    assert writer.dropped == 101
    os.read(pipe[0], 65536)
    assert writer.write(b"back\n")
    assert os.read(pipe[0], 65536) == b"back\n"


def test_a_torn_line_does_not_spoil_the_next(pipe: tuple[int, int]) -> None:
    """What was cut in the middle is ended before the next line begins."""
    writer = StderrWriter(pipe[1])
    assert not writer.write(b"t" * 200_000 + b"\n")
    torn = os.read(pipe[0], 200_000)
    assert set(torn) == {ord("t")}
    assert writer.write(b"next\n")
    assert os.read(pipe[0], 65536) == b"\nnext\n"


def test_a_host_that_is_gone_raises_nothing(pipe: tuple[int, int]) -> None:
    """A broken pipe loses the line and nothing else."""
    os.close(pipe[0])
    writer = StderrWriter(pipe[1])
    assert not writer.write(b"unheard\n")
    os.close(pipe[1])
    assert not writer.write(b"unheard\n")
    assert writer.dropped == 2
