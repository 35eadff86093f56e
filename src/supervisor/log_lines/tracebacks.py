"""Exceptions as plugins report them, text or structured, to `ExceptionRecord`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from supervisor.quoting import escape_text
from supervisor.records import ExceptionRecord, Frame

__all__ = ["CHAINED", "FAULT", "FINAL", "GROUP_HEADER", "HEADER", "parse_traceback", "read_stacks"]

HEADER: Final = "Traceback (most recent call last):"
GROUP_HEADER: Final = "  + Exception Group Traceback (most recent call last):"
FAULT: Final = "Fatal Python error: "
CHAINED: Final = frozenset(
    {
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
    }
)
FINAL: Final = re.compile(r"(?P<type>[A-Za-z_][\w.<>]*)(?::(?: (?P<message>.*))?)?", re.DOTALL)
"""The last line of a traceback: `package.Type: message`, or the type alone."""

# faulthandler leaves out the comma.
_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>[0-9]{1,9})(?:,? in (?P<name>.+))?')
_MARKERS = re.compile(r"[\s~^]*")
_CURRENT_THREAD = re.compile(r"Current thread .*\(most recent call first\):")


def parse_traceback(lines: Sequence[str]) -> ExceptionRecord:
    """Read the text of one traceback, causes included, as Python, an exception group or faulthandler prints it.

    What ended the program is the last exception: its type, message and frames are the record's, the causes are in
    `text`. Total: of lines that are no traceback it keeps the text.
    """
    text = escape_text("\n".join(lines), multiline=True)
    if lines and lines[0].startswith(FAULT):
        type_, _, message = lines[0].partition(": ")
        return ExceptionRecord(type=type_, message=escape_text(message), frames=_read_fault(lines), text=text)
    lines = _outermost(lines)
    start = max((number for number, line in enumerate(lines) if line == HEADER), default=-1) + 1
    body = lines[start:]
    # A message may span lines, so its first line is the one to look for: the first that is not indented.
    for number, line in enumerate(body):
        if line[:1] not in ("", " ") and (final := FINAL.fullmatch(line)):
            return ExceptionRecord(
                type=escape_text(final["type"]),
                message=escape_text("\n".join([final["message"] or "", *body[number + 1 :]]).strip("\n")),
                frames=_read_frames(body[:number]),
                text=text,
            )
    return ExceptionRecord(type="", message="", frames=_read_frames(body), text=text)


def _outermost(lines: Sequence[str]) -> Sequence[str]:
    """Of an exception group return the group's own traceback, without its margin and without its members."""
    if GROUP_HEADER not in lines:
        return lines
    own = lines[lines.index(GROUP_HEADER) + 1 :]
    return [HEADER, *(line[4:] for line in own if line.startswith("  | "))]


def _read_fault(lines: Sequence[str]) -> tuple[Frame, ...]:
    """Read the current thread's frames of a faulthandler dump, which has the innermost first."""
    start = next((number for number, line in enumerate(lines) if _CURRENT_THREAD.match(line)), len(lines))
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return _read_frames(lines[start:end])[::-1]


def _read_frames(lines: Sequence[str]) -> tuple[Frame, ...]:
    frames = []
    for number, line in enumerate(lines):
        if not (found := _FRAME.fullmatch(line)):
            continue
        source = lines[number + 1] if number + 1 < len(lines) else ""
        if not source.startswith("    ") or _MARKERS.fullmatch(source):
            source = ""
        frames.append(
            Frame(
                filename=escape_text(found["file"]),
                lineno=int(found["line"]),
                name=escape_text(found["name"] or ""),
                line=escape_text(source.strip()),
            )
        )
    return tuple(frames)


def read_stacks(stacks: object) -> ExceptionRecord | None:
    """Read structlog's `dict_tracebacks`: a list of exceptions, the raised one first, its causes after it.

    Returns:
        The exception with its text as Python would print it, or None when `stacks` does not have that shape.
    """
    if not (isinstance(stacks, list) and stacks and all(isinstance(stack, dict) for stack in stacks)):
        return None
    raised = stacks[0]
    if not isinstance(raised.get("exc_type"), str):
        return None
    lines: list[str] = []
    for stack in reversed(stacks):
        lines += _render_stack(stack)
    return ExceptionRecord(
        type=escape_text(raised["exc_type"]),
        message=escape_text(str(raised.get("exc_value", ""))),
        frames=tuple(_frames_of(raised)),
        text=escape_text("\n".join(lines), multiline=True),
    )


def _frames_of(stack: Mapping[str, object]) -> Iterable[Frame]:
    frames = stack.get("frames")
    for frame in frames if isinstance(frames, list) else ():
        match frame:
            case {"filename": str(filename), "lineno": int(lineno), "name": str(name)}:
                line = frame.get("line")
                yield Frame(
                    filename=escape_text(filename),
                    lineno=lineno,
                    name=escape_text(name),
                    line=escape_text(line) if isinstance(line, str) else "",
                )


def _render_stack(stack: Mapping[str, object]) -> list[str]:
    lines = [HEADER]
    for frame in _frames_of(stack):
        lines.append(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}')
        lines += [f"    {frame.line}"] if frame.line else []
    lines.append(f"{stack.get('exc_type', '')}: {stack.get('exc_value', '')}")
    return lines
