"""An encoded message that was not put together, for whoever writes it to do so, or to write it as it is."""

from __future__ import annotations

from typing import Final

__all__ = ["LARGE", "Pieces", "join_small"]

LARGE: Final = 32_768
"""Bytes from which it pays to copy a message once less."""

_MOST: Final = 16
"""Pieces that are worth having: of many, each is small."""


class Pieces:
    """The bytes of a large message, in few pieces.

    Attributes:
        parts: the pieces, in order; some of them may be the values of the message's fields themselves.
    """

    __slots__ = ("_size", "parts")

    def __init__(self, parts: list[bytes], size: int) -> None:
        self.parts = parts
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


def join_small(parts: list[bytes]) -> bytes | Pieces:
    """Join pieces unless they are few and large."""
    if len(parts) <= _MOST and (size := sum(map(len, parts))) >= LARGE:
        return Pieces(parts, size)
    return b"".join(parts)
