"""What a worker of a process pool does."""

from __future__ import annotations

__all__ = ["get"]

_VALUE = b"v" * 100


def get(key: str) -> bytes:  # noqa: ARG001  # every key has this value
    """Return the value."""
    return _VALUE
