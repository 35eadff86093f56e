"""The end of a plugin that was asked to end and does not: a handler refuses its cancellation, a thread never returns."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Self

__all__ = ["OVERTIME", "LastResort", "current_last_resort"]

OVERTIME: Final = 0.5
"""Seconds after the grace in which everything has to have ended. With the default grace that is before a Go host, which
waits for two seconds, kills: a plugin that is killed cannot remove its socket."""


class LastResort:
    """While entered, the process is `serve`'s to end; the program that goes on after it disarms it by leaving."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._token: Token[LastResort | None] | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        if self._timer is not None:
            self._timer.cancel()

    def arm(self, seconds: float, before_exit: Callable[[], None]) -> None:
        """End the process with status 1 in so many seconds, after `before_exit`, which is called in a thread."""

        def end() -> None:
            try:
                before_exit()
            finally:
                os._exit(1)

        self._timer = threading.Timer(seconds, end)
        self._timer.daemon = True
        self._timer.start()


_current: ContextVar[LastResort | None] = ContextVar("last_resort", default=None)


def current_last_resort() -> LastResort | None:
    """Return the one that this code runs under; None where the process is not `serve`'s to end."""
    return _current.get()
