"""Source text under construction: lines, indentation, and the names that the text refers to."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Source"]


class Source:
    """The text of one function, and the scope it will run in."""

    def __init__(self) -> None:
        self.scope: dict[str, object] = {}
        self._lines: list[str] = []
        self._margin = ""

    def line(self, *texts: str) -> None:
        """Add lines at the current indentation."""
        self._lines += [self._margin + text for text in texts]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Add `head` and indent what follows."""
        self.line(head)
        outside, self._margin = self._margin, self._margin + "    "
        yield
        self._margin = outside

    def name(self, name: str, value: object) -> str:
        """Make `value` known to the text as `name`; the same name must mean the same value throughout."""
        known = self.scope.setdefault(name, value)
        assert known is value or known == value, f"{name} already names something else"
        return name

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def compile(self, function: str, title: str) -> Callable[..., Any]:
        """Run the text and return the function it defines; `title` stands for the file name in a traceback."""
        text, filename = str(self), f"<{title}>"
        # With the text in `linecache`, tracebacks and debuggers show the generated line.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), self.scope)  # noqa: S102 - our text, made from field names by `repr`
        made: Callable[..., Any] = self.scope[function]  # type: ignore[assignment] # the text defines it
        return made
