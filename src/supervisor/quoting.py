"""The rule that makes a plugin's text safe to print."""

from __future__ import annotations

import re
from functools import cache

__all__ = ["escape_text", "quote_text"]

# C0 and C1 controls, DEL, zero-width and bidi controls, line and paragraph separators, BOM, surrogates.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ud800-\udfff]"


@cache  # compiled when there is text to escape, which in most plugins there never is
def _unsafe(multiline: bool) -> re.Pattern[str]:
    return re.compile(_UNSAFE.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f") if multiline else _UNSAFE)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")  # noqa: PLR2004


def escape_text(text: str, *, multiline: bool = False) -> str:
    """Make `text` safe for a terminal and a line-oriented log: controls become visible escapes.

    A plugin could otherwise forge lines, move the cursor, reverse the reading direction or break an encoder with a
    lone surrogate. With `multiline` newlines and tabs stay, for tracebacks.
    """
    return _unsafe(multiline).sub(_escape, text)


def quote_text(text: str | bytes, *, limit: int = 80, mark: str = "'") -> str:
    r"""Return foreign text as a message may quote it: escaped, of at most `limit` characters, between two `mark`s.

    Bytes are read as UTF-8, with what is not UTF-8 shown as `\xNN`.
    """
    # Four bytes make at most one character: cut before decoding, so that a quote of a large text costs nothing.
    shown = text[: 4 * limit + 4].decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text[: limit + 1]
    safe = escape_text(shown)
    return f"{mark}{safe if len(safe) <= limit else safe[: limit - 1] + '…'}{mark}"
