"""Where a plugin's log events go: to the host while it follows, else to stderr as one line each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from supervisor.levels import Level
from supervisor.services.log_encoding import encode_batch, encode_record
from supervisor.services.logs import LogBuffer

if TYPE_CHECKING:
    from supervisor.records import ExceptionRecord

__all__ = ["LogSink"]


def _format_hclog(*arguments: Any, **options: Any) -> bytes:
    from supervisor.sdk.hclog import format_line  # noqa: PLC0415  # with json 2 ms; most records go to the host

    return format_line(*arguments, **options)


class LogSink:
    """Takes events from any thread, never raises, never blocks for long, and never calls itself.

    Args:
        buffer: takes records while the host follows.
        write_line: takes lines for stderr.
        level: stdlib logging's number below which nothing is wanted.
        format_line: makes such a line, as hclog does.
        echo: whether lines are wanted as well while the host follows.
    """

    def __init__(
        self,
        buffer: LogBuffer,
        write_line: Callable[[bytes], object],
        *,
        level: int,
        format_line: Callable[..., bytes] = _format_hclog,
        echo: bool = False,
    ) -> None:
        self.level = level
        self.buffer = buffer
        self._write_line = write_line
        self._format_line = format_line
        self._echo = echo
        self._gates: list[Callable[[int], None]] = []
        self._owner = os.getpid()
        self._inside = threading.local()

    def add_gate(self, gate: Callable[[int], None]) -> None:
        """Have `gate` told the level, now and whenever it changes, so that events are refused where they are made."""
        self._gates.append(gate)
        gate(self.level)

    def set_level(self, level: int) -> None:
        """Want events from `level` on."""
        if level != self.level:
            self.level = level
            for gate in self._gates:
                gate(level)

    def emit(
        self,
        level: int,
        event: str,
        *,
        logger: str = "",
        logged_at: float | None = None,
        fields: Mapping[str, object] = MappingProxyType({}),
        exception: ExceptionRecord | None = None,
    ) -> None:
        """Take one event; arguments as `encode_record` has them. An event from inside of an event is dropped."""
        if getattr(self._inside, "an_event", False):
            return
        self._inside.an_event = True
        try:
            at = time.time() if logged_at is None else logged_at
            # A forked child has the buffer's memory, but nobody who sends it.
            if self.buffer.is_open and os.getpid() == self._owner:
                record = encode_record(level, event, logger=logger, logged_at=at, fields=fields, exception=exception)
                if self.buffer.offer(record) and not self._echo:
                    return
            self._write_line(
                self._format_line(level, event, logger=logger, logged_at=at, fields=fields, exception=exception)
            )
        except Exception:  # noqa: BLE001  # logging must not end what is logged about
            return
        finally:
            self._inside.an_event = False

    def spill(self) -> bool:
        """Write a batch of what the host did not take to stderr; whether nothing is left and stderr is the way again."""
        from supervisor.services.log_decoding import decode_batch  # noqa: PLC0415  # with records 3 ms, at the end only

        records, dropped = self.buffer.take()
        for record in () if self._echo else decode_batch(encode_batch(records, 0)).records:
            self._write_line(
                self._format_line(
                    record.level,
                    record.event,
                    logger=record.logger,
                    logged_at=record.logged_at or 0.0,
                    fields=record.fields,
                    exception=record.exception,
                )
            )
        if not self.buffer.close_if_empty():
            return False
        if (lost := dropped - self.buffer.reported) > 0:
            self.buffer.reported = dropped
            self._write_line(
                self._format_line(Level.WARNING, "log records dropped", logged_at=time.time(), fields={"count": lost})
            )
        return True
