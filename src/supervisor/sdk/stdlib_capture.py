"""stdlib logging inside a plugin: each record goes to the sink."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Final

from supervisor.sdk.log_sink import LogSink
from supervisor.sdk.tracebacks import describe_exception

__all__ = ["SinkHandler", "capture_stdlib"]

# What every record has; the rest came through `extra`.
_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}

# They describe every header and frame at DEBUG, those of the log stream included.
_CHATTY: Final = ("hpack", "h2")


class SinkHandler(logging.Handler):
    """Hands records to the sink, with what `extra` and the context variables bind to them."""

    def __init__(self, sink: LogSink, get_context: Callable[[], Mapping[str, object]]) -> None:
        super().__init__()
        self._sink = sink
        self._get_context = get_context

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and emit; without the handler's lock, since the sink is safe to use from any thread."""
        passed = self.filter(record)
        if passed:
            self.emit(record if passed is True else passed)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record; never raises."""
        fields = dict(self._get_context())
        fields.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.stack_info:
            fields["stack"] = record.stack_info
        self._sink.emit(
            record.levelno,
            _render_message(record),
            logger=record.name,
            logged_at=record.created,
            fields=fields,
            exception=describe_exception(record.exc_info),
        )


def _render_message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  # arguments that do not fit the format, or a __str__ that raises
        return f"{record.msg!r} with arguments that do not fit"


def capture_stdlib(sink: LogSink, get_context: Callable[[], Mapping[str, object]]) -> None:
    """Add a `SinkHandler` to the root logger, and keep the root's level at the sink's.

    Handlers that print to stdout or stderr are removed, since the host would hear everything twice; others stay. Warnings
    of the `warnings` module become records, too.
    """
    root = logging.getLogger()
    streams = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
    for handler in root.handlers[:]:
        if isinstance(handler, logging.StreamHandler) and handler.stream in streams:
            root.removeHandler(handler)
    root.addHandler(SinkHandler(sink, get_context))
    logging.captureWarnings(capture=True)
    for name in _CHATTY:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    sink.add_gate(root.setLevel)
