"""Descriptors that mean "the host is alive", kept out of children that are forked without exec.

The other end of such a pipe learns of the host's death by end of file, and a lock of the host's ends with it; both fail
when a forked worker (multiprocessing, a pre-forking server) holds a copy and outlives the host. Programs that are
executed never see these descriptors: they are all close-on-exec.
"""

from __future__ import annotations

import contextlib
import os
import weakref

__all__ = ["HostOnly"]


class HostOnly:
    """Owns one descriptor and closes it, too, in every child forked by `os.fork`."""

    __slots__ = ("__weakref__", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _OPEN.add(self)

    def fileno(self) -> int:
        """The descriptor, or -1 when it is closed."""
        return self._descriptor

    def close(self) -> None:
        """Close it; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


# Process-wide because forking is: `os.register_at_fork` cannot be undone, so there is one hook and a weak set behind it.
_OPEN: weakref.WeakSet[HostOnly] = weakref.WeakSet()


def _close_all_in_child() -> None:
    for held in tuple(_OPEN):
        held.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all_in_child)
