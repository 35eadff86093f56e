"""From pipe to records: nothing blocks, and every line is either parsed or counted."""

from __future__ import annotations

import anyio
from hypothesis import given
from hypothesis import strategies as st

from supervisor.host.intake import LineIntake
from supervisor.records import LogRecord, LogSource
from supervisor.terms import Limits
from supervisor.testing.virtual_time import run_in_virtual_time


class Collected:
    """What an intake told."""

    def __init__(self, **limits: int) -> None:
        self.records: list[LogRecord] = []
        self.lines: list[str] = []
        self.dropped: list[tuple[int, int]] = []
        self.intake = LineIntake(
            LogSource.STDERR,
            Limits(**limits),
            on_record=self.records.append,
            on_dropped=lambda _, count, total: self.dropped.append((count, total)),
            on_line=self.lines.append,
        )

    @property
    def total_dropped(self) -> int:
        return self.dropped[-1][1] if self.dropped else 0


async def test_lines_become_records_in_order() -> None:
    """Chunks cut anywhere give the lines in order, and the last one without a newline too."""
    collected = Collected()
    for chunk in (b"one\ntw", b"o\nthr", b"ee"):
        collected.intake.push(chunk)
    collected.intake.close()
    await collected.intake.work()
    assert [record.event for record in collected.records] == ["one", "two", "three"]
    assert not collected.dropped


async def test_full_backlog_loses_the_oldest_lines_and_counts_them() -> None:
    """More bytes than the backlog holds lose the oldest lines, exactly as many as are counted."""
    collected = Collected(log_backlog=1000)
    for number in range(1000):
        collected.intake.push(f"line {number}\n".encode())
    collected.intake.close()
    await collected.intake.work()
    kept = [int(record.event.split()[1]) for record in collected.records]
    assert kept == list(range(1000 - len(kept), 1000))
    assert collected.total_dropped == 1000 - len(kept) > 0


@given(
    lines=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 97), min_size=1),
    backlog=st.integers(50, 400),
)
def test_every_line_is_parsed_or_counted(lines: list[int], cuts: list[int], backlog: int) -> None:
    """Whatever the lines, the chunks and the backlog: whole lines parsed plus lines counted are all the lines."""
    stream = b"".join(b"%04d" % number + b"x" * length + b"\n" for number, length in enumerate(lines))
    chunks: list[bytes] = []
    position = 0
    while position < len(stream):
        size = cuts[len(chunks) % len(cuts)]
        chunks.append(stream[position : position + size])
        position += size

    async def take_in() -> Collected:
        collected = Collected(log_backlog=backlog)
        for number, chunk in enumerate(chunks):
            collected.intake.push(chunk)
            if number == len(chunks) // 2:
                await collected.intake.parse_backlog()
        collected.intake.close()
        await collected.intake.work()
        return collected

    collected = run_in_virtual_time(take_in)
    assert len(collected.records) + collected.total_dropped == len(lines)
    for record in collected.records:
        assert record.truncated or len(record.event) == 4 + lines[int(record.event[:4])]


async def test_traceback_is_complete_after_a_quiet_moment() -> None:
    """A traceback at the end of what is printed becomes a record without another line having to follow."""
    collected = Collected()
    collected.intake.push(b'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: no\n')
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collected.intake.work)
        with anyio.fail_after(5):
            while not collected.records:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    (record,) = collected.records
    assert record.exception is not None
    assert record.exception.type == "ValueError"


async def test_cut_short_it_still_tells_what_it_has() -> None:
    """Cancelled while waiting for the rest of a line, the worker tells what there is of it."""
    collected = Collected()
    collected.intake.push(b"half a line")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collected.intake.work)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert [record.event for record in collected.records] == ["half a line"]


async def test_flood_is_parsed_in_slices() -> None:
    """A backlog that takes long to parse lets other tasks run in between, many times."""
    collected = Collected(log_backlog=10_000_000)
    collected.intake.push(b"x\n" * 50_000)
    collected.intake.close()
    turns = 0
    async with anyio.create_task_group() as tasks:

        async def count_turns() -> None:
            nonlocal turns
            while len(collected.records) < 50_000:
                turns += 1
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(count_turns)
        await collected.intake.work()
    assert len(collected.records) == 50_000
    assert turns > 10


async def test_cut_short_it_keeps_the_last_lines_and_counts_the_rest() -> None:
    """When time is up with much unparsed, the last lines are still told and all others counted, none forgotten."""
    collected = Collected(log_backlog=10_000_000)
    for start in range(0, 200_000, 1000):
        collected.intake.push(b"".join(b"line %d\n" % number for number in range(start, start + 1000)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collected.intake.work)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert collected.records[-1].event == "line 199999"
    assert collected.lines[-1] == "line 199999"
    assert 0 < collected.total_dropped == 200_000 - len(collected.records)
