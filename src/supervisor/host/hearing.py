"""What one instance says, by whichever way it says it, as log records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

import anyio
from anyio.abc import TaskGroup

from supervisor.abc import ByteSource
from supervisor.errors import TransportError
from supervisor.host.intake import LineIntake
from supervisor.host.last_words import LastWords
from supervisor.host.output import Output
from supervisor.log_lines import parse_line
from supervisor.records import LogRecord, LogSource
from supervisor.services import logs, stdio
from supervisor.terms import Limits
from supervisor.transport.channel import Channel

__all__ = ["Hearing"]

_CHANNELS: Final = {stdio.STDOUT: LogSource.STDOUT, stdio.STDERR: LogSource.STDERR}


class Hearing:
    """Pipes, the stdio stream and the log stream of one instance.

    Attributes:
        last_words: the end of what it said on stderr.

    Args:
        limits: bounds on lines and backlogs.
        log_level: the level, as a number, from which it is to send records.
        on_record: told what it says.
        on_dropped: told of records that were lost: how many since the last time, and in all.
        on_notice: told what a person should hear of.
        outputs: where the bytes of its stdio stream go that are not to become records.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        log_level: int,
        on_record: Callable[[LogRecord], None],
        on_dropped: Callable[[LogSource, int, int], None],
        on_notice: Callable[[str], None],
        outputs: Mapping[LogSource, Output] = MappingProxyType({}),
    ) -> None:
        self.last_words = LastWords(limits.stderr_tail)
        self._limits = limits
        self._log_level = log_level
        self._on_record = on_record
        self._on_dropped = on_dropped
        self._on_notice = on_notice
        self._outputs = dict(outputs)
        self._follower: logs.LogFollower | None = None

    def set_log_level(self, level: int) -> None:
        """Have the plugin send records from `level` on."""
        self._log_level = level
        if self._follower is not None:
            self._follower.set_level(level)

    def hear_pipe(self, tasks: TaskGroup, pipe: ByteSource, source: LogSource, *, first: bytes = b"") -> None:
        """Read `pipe` to its end, from `first` on, in tasks of `tasks`."""
        intake = self._new_intake(source)
        intake.push(first)
        tasks.start_soon(intake.read, pipe)
        tasks.start_soon(intake.work)

    def hear_streams(self, tasks: TaskGroup, channel: Channel) -> None:
        """Follow the log stream and the stdio stream until the connection ends, in tasks of `tasks`."""
        tasks.start_soon(self._follow_logs, channel)
        tasks.start_soon(self._follow_stdio, channel)

    async def _follow_logs(self, channel: Channel) -> None:
        dropped = 0
        # What breaks the stream breaks the connection too, where it is told; what is left arrives on stderr.
        with suppress(TransportError):
            async with logs.follow(channel, level=self._log_level) as follower:
                self._follower = follower
                async for batch in follower:
                    for record in batch.records:
                        self._on_record(record)
                    if batch.dropped > dropped:
                        self._on_dropped(LogSource.STREAM, batch.dropped - dropped, batch.dropped)
                        dropped = batch.dropped
        self._follower = None

    async def _follow_stdio(self, channel: Channel) -> None:
        intakes = {source: self._new_intake(source) for source in _CHANNELS.values()}
        async with anyio.create_task_group() as workers:
            for intake in intakes.values():
                workers.start_soon(intake.work)
            try:
                with suppress(TransportError):
                    async for which, data in stdio.follow(channel):
                        if (source := _CHANNELS.get(which)) is not None and not await self._write(source, data):
                            intakes[source].push(data)
            finally:
                for intake in intakes.values():
                    intake.close()
        for output in self._outputs.values():
            await output.wait_written()

    async def _write(self, source: LogSource, data: bytes) -> bool:
        """Hand raw bytes to the application; False when it does not want them."""
        output = self._outputs.get(source)
        if output is None:
            return False
        if not output.put(data):
            del self._outputs[source]
            self._on_notice(f"the writer for its {source} raised {output.error!r}: what it prints becomes log records")
            return False
        await output.wait_room()
        return True

    def _new_intake(self, source: LogSource) -> LineIntake:
        return LineIntake(
            source,
            self._limits,
            on_record=self._on_record,
            on_dropped=self._on_dropped,
            on_line=self._remember if source is LogSource.STDERR else None,
        )

    def _remember(self, line: str) -> None:
        """Keep a line for the exit report; of a record in JSON, what a person would read."""
        if line.startswith("{"):
            record = parse_line(line)
            error = record.exception
            line = f"{record.event}: {error.type}: {error.message}" if error is not None else record.event
        self.last_words.add(line)
