"""The multi-line reports of dying programs: where each begins, and which lines still belong to it."""

from __future__ import annotations

import re
from typing import Protocol

from supervisor.log_lines.tracebacks import CHAINED, FAULT, FINAL, GROUP_HEADER, HEADER, parse_traceback
from supervisor.quoting import escape_text
from supervisor.records import ExceptionRecord

__all__ = ["Block", "FaultDump", "GoPanic", "GroupTraceback", "PythonTraceback", "open_block"]


class Block(Protocol):
    """A report that is being read."""

    @property
    def confirmed(self) -> bool:
        """Whether it is a report: its first line alone may have been a coincidence."""
        ...

    def accepts(self, text: str) -> bool:
        """Whether `text` is its next line; asked once for each line, in order."""
        ...

    def read(self, lines: list[str]) -> ExceptionRecord:
        """Return the exception that its lines report."""
        ...


def open_block(text: str) -> Block | None:
    """Return the block that a line begins, if it begins one."""
    if text == HEADER or text.startswith("Exception in thread ") or _SYNTAX_FRAME.fullmatch(text):
        return PythonTraceback(text)
    if text == GROUP_HEADER:
        return GroupTraceback()
    if text.startswith(FAULT):
        return FaultDump()
    if text.startswith(("panic: ", "fatal error: ")):
        return GoPanic()
    return None


# The script itself does not parse: there is no header then, and no function.
_SYNTAX_FRAME = re.compile(r'  File ".+", line [0-9]+')
_SYNTAX_ERRORS = frozenset({"SyntaxError", "IndentationError", "TabError"})


class PythonTraceback:
    """A traceback and those it is chained to, up to the line `Type: message` of the last."""

    def __init__(self, first: str) -> None:
        # before: a header must come; body: indented lines, then the final one; after: it may be a cause.
        self._state = "body" if first == HEADER or _SYNTAX_FRAME.fullmatch(first) else "before"
        self._headless = first != HEADER and self._state == "body"
        self.confirmed = first == HEADER

    def accepts(self, text: str) -> bool:
        """Whether `text` is its next line; asked once for each line, in order."""
        match self._state:
            case "before":
                return self._enter_body(text)
            case "body":
                return text.startswith((" ", "\t")) or self._end_body(text)
            case "after":
                # An indented line goes on with the message, as validation errors do.
                self._state = "after" if text.startswith(" ") else "gap"
                return not text or self._state == "after"
            case "gap":
                self._state = "chain"
                return text in CHAINED
            case _:
                return not text or self._enter_body(text)

    def _enter_body(self, text: str) -> bool:
        self._state = "body"
        self.confirmed = self.confirmed or text == HEADER
        return text == HEADER

    def _end_body(self, text: str) -> bool:
        final = FINAL.fullmatch(text)
        if final is None or (self._headless and final["type"] not in _SYNTAX_ERRORS):
            return False
        self._state = "after"
        self.confirmed = True
        return True

    def read(self, lines: list[str]) -> ExceptionRecord:
        """Return the last exception of the chain."""
        return parse_traceback(lines)


class GroupTraceback:
    """An exception group: all of it is indented, and nothing but its end says where it ends."""

    confirmed = True

    def accepts(self, text: str) -> bool:
        """Whether `text` is its next line."""
        return text.startswith("  ")

    def read(self, lines: list[str]) -> ExceptionRecord:
        """Return the group itself; its members are in the text."""
        return parse_traceback(lines)


class FaultDump:
    """What CPython's faulthandler writes on a fatal signal or error."""

    confirmed = True
    _LINE = re.compile(
        r"\s.*|Current thread.*|Thread 0x.*|Python runtime state.*|Extension modules:.*|<.*>|", re.DOTALL
    )

    def accepts(self, text: str) -> bool:
        """Whether `text` is its next line."""
        return self._LINE.fullmatch(text) is not None

    def read(self, lines: list[str]) -> ExceptionRecord:
        """Return the fault with the frames of the thread it happened in."""
        return parse_traceback(lines)


class GoPanic:
    """A panic or a fatal error of Go's runtime with its goroutines."""

    confirmed = True
    _LONGEST_MESSAGE = 16  # lines; a panic's value may print on several
    _TAGGED = re.compile(r"[{]|\[?[A-Z]{3,8}[\]:]")
    _LINE = re.compile(
        r"|\t.*|goroutine [0-9]+.*|\[signal .*|\[originating .*|created by .*|runtime stack:|panic: .*|exit status .*"
        r"|\.\.\..* (?:frames|goroutines) .*|r[a-z0-9]{1,6} +0x[0-9a-f]+",
        re.DOTALL,
    )

    def __init__(self) -> None:
        self._message_lines = 1

    def accepts(self, text: str) -> bool:
        """Whether `text` is its next line."""
        if text.startswith(("goroutine ", "runtime stack:")):
            self._message_lines = self._LONGEST_MESSAGE
        if self._LINE.fullmatch(text) or _is_go_call(text):
            return True
        self._message_lines += 1
        return self._message_lines <= self._LONGEST_MESSAGE and not self._TAGGED.match(text)

    def read(self, lines: list[str]) -> ExceptionRecord:
        """Return the first line as type and message; goroutines are left to `text`."""
        type_, _, message = lines[0].partition(": ")
        return ExceptionRecord(
            type=escape_text(type_),
            message=escape_text(message),
            text=escape_text("\n".join(lines), multiline=True),
        )


def _is_go_call(text: str) -> bool:
    """Whether `text` is a call in a goroutine's stack, as in `main.(*Store).Get(0xc000012345, {0x4a, 0x3})`."""
    function, bracket, _ = text.partition("(")
    return bool(function) and bool(bracket) and text.endswith(")") and not any(map(str.isspace, function))
