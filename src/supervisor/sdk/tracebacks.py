"""Exceptions as records: their frames and the whole rendered traceback."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from supervisor.records import ExceptionRecord, Frame

__all__ = ["describe_exception"]

_FRAMES: Final = 100
"""Frames kept: as many of the innermost, since that is where it happened."""


def describe_exception(what: object) -> ExceptionRecord | None:
    """Return a record of what `exc_info` may be: an exception, stdlib's triple, or true for the current one.

    None when there is no exception. Never raises, and never looks at local variables.
    """
    error = _find_exception(what)
    if error is None:
        return None
    from supervisor.records import ExceptionRecord  # noqa: PLC0415  # 3 ms, for what may never happen

    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # a foreign __str__ may raise anything
        message = "<exception str() failed>"
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    return ExceptionRecord(
        type=name, message=message, frames=_describe_frames(error.__traceback__), text=_render(error)
    )


def _find_exception(what: object) -> BaseException | None:
    if isinstance(what, BaseException):
        return what
    if isinstance(what, tuple) and len(what) == 3 and isinstance(what[1], BaseException):  # noqa: PLR2004  # stdlib's triple
        return what[1]
    return sys.exc_info()[1] if what and not isinstance(what, tuple) else None


def _describe_frames(trace: TracebackType | None) -> tuple[Frame, ...]:
    try:
        summary = traceback.extract_tb(trace, limit=-_FRAMES)
    except Exception:  # noqa: BLE001  # a module's loader may raise while its source is looked up
        return ()
    from supervisor.records import Frame  # noqa: PLC0415  # as above

    return tuple(
        Frame(filename=entry.filename, lineno=entry.lineno or 0, name=entry.name, line=entry.line or "")
        for entry in summary
    )


def _render(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-_FRAMES)).rstrip("\n")
    except Exception:  # noqa: BLE001  # as above
        return f"{type(error).__name__} that cannot be rendered"
