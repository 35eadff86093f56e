"""From the operating system's refusals to `LaunchError`, with the next step as a hint."""

from __future__ import annotations

import errno
import os
from typing import Final

from supervisor.errors import LaunchError

__all__ = ["launch_error", "refusal"]

_HINTS: Final = {
    errno.E2BIG: "pass less in its command line and environment",
    errno.EACCES: "check the permissions of the file and of every folder above it",
    errno.EAGAIN: "the limit on processes is reached (ulimit -u, pids cgroup)",
    errno.EMFILE: "the host's limit on open files is reached (ulimit -n)",
    errno.ENFILE: "the system's limit on open files is reached",
    errno.ENOEXEC: "the file is neither a program for this machine nor a script with a `#!` line",
    errno.ENOENT: "check the path, or PATH in the plugin's env",
    errno.ENOMEM: "the machine is out of memory",
    errno.ENOSPC: "free some space, or point XDG_RUNTIME_DIR or TMPDIR elsewhere",
    errno.EDQUOT: "free some space, or point XDG_RUNTIME_DIR or TMPDIR elsewhere",
    errno.EROFS: "point XDG_RUNTIME_DIR or TMPDIR to a directory that can be written",
    errno.ENAMETOOLONG: "point XDG_RUNTIME_DIR or TMPDIR to a shorter path",
    errno.ETXTBSY: "the program is being written; start the plugin once that is finished",
    errno.ELOOP: "the path goes in a circle of symbolic links",
}


def refusal(number: int, message: str, *, hint: str | None = None) -> LaunchError:
    """Make the error for something that we found out before the kernel had to."""
    return LaunchError(message, errno=number, hint=hint or _HINTS.get(number))


def launch_error(error: OSError | ValueError, *, plugin: str, doing: str) -> LaunchError:
    """Translate what the operating system, or Python on its behalf, said while `doing`."""
    if isinstance(error, OSError):
        number = error.errno
        reason = os.strerror(number) if number is not None else str(error)
        where = f": {error.filename!r}" if error.filename else ""
    else:  # NUL or `=` where the kernel's interface cannot carry it
        number, reason, where = errno.EINVAL, str(error), ""
    hint = _HINTS.get(number) if number is not None else None
    return LaunchError(f"{doing} failed: {reason}{where}", errno=number, plugin=plugin, hint=hint)
