"""What serving changes in its process: where events and uncaught exceptions go, and what signals do."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType

from supervisor.levels import Level
from supervisor.sdk.descriptors import STDERR_FD
from supervisor.sdk.log_sink import LogSink
from supervisor.sdk.tracebacks import describe_exception
from supervisor.sdk.when_imported import when_imported

__all__ = ["capture_events", "dump_stacks_on_abort", "ignore_interrupts", "stop_on"]


def capture_events(sink: LogSink) -> None:
    """Send the events of structlog and of stdlib logging to `sink`, and exceptions that nobody caught."""
    from supervisor.sdk.stdlib_capture import capture_stdlib  # noqa: PLC0415  # importing the sdk does without

    def on_uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        sink.emit(Level.CRITICAL, f"uncaught {kind.__name__}", exception=describe_exception(error))

    def on_thread_uncaught(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_type is not SystemExit:
            sink.emit(
                Level.ERROR,
                f"uncaught {arguments.exc_type.__name__} in a thread",
                exception=describe_exception(arguments.exc_value),
            )

    def on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
        sink.emit(
            Level.ERROR,
            f"{unraisable.err_msg or 'Exception ignored in'} {unraisable.object!r}",
            exception=describe_exception(unraisable.exc_value),
        )

    sys.excepthook = on_uncaught
    # Else they are printed to sys.stderr, which is not the host's log.
    sys.unraisablehook = on_unraisable
    threading.excepthook = on_thread_uncaught
    capture_stdlib(sink, _bound_context)
    when_imported("structlog", lambda: _capture_structlog(sink))


def _capture_structlog(sink: LogSink) -> None:
    from supervisor.sdk.structlog_capture import capture_structlog  # noqa: PLC0415  # 20 ms, for plugins that use it

    capture_structlog(sink)


def _bound_context() -> Mapping[str, object]:
    """Return what is bound to structlog's context variables."""
    contextvars = sys.modules.get("structlog.contextvars")
    return {} if contextvars is None else contextvars.get_contextvars()


def dump_stacks_on_abort() -> None:
    """Show every stack on stderr on SIGABRT, which a host sends to a plugin that hangs, and on a fatal fault."""
    with suppress(ValueError, OSError):
        faulthandler.enable(STDERR_FD)


def ignore_interrupts() -> None:
    """Do nothing on SIGINT: Ctrl-C reaches the whole foreground group, and the host decides."""
    if threading.current_thread() is threading.main_thread():
        # A handler and not SIG_IGN, which child processes would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)


def stop_on(number: signal.Signals, stop: Callable[[], None]) -> None:
    """Call `stop` in the running loop on a signal, where the platform and the thread allow it."""
    with suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(number, stop)
