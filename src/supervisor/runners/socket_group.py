"""Let a group of users reach a plugin's sockets, as go-plugin's UnixSocketConfig.Group does."""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from supervisor.runners.launch_errors import refusal

if sys.platform != "win32":
    import grp

__all__ = ["INSIDE", "PASSAGE", "SOCKET", "can_pass", "find_group", "open_to_group"]

PASSAGE: Final = 0o710
"""The mode of a folder that the group may pass through, and not list."""

_NO_GROUP: Final = 2**32 - 1
"""The number that means "leave it as it is" to chown; greater ones there are none."""

_DIGITS: Final = 10

INSIDE: Final = 0o750
"""The mode of a folder with sockets. Not writable: what lies in it is ours."""

SOCKET: Final = 0o660
"""The mode of a socket: to connect to one takes the right to write it."""


def find_group(name: str) -> int:
    """Return the number of a group that is given by its name, or by its number in decimal.

    Raises:
        LaunchError: there is no such group.
    """
    if name.isascii() and name.isdigit() and len(name) <= _DIGITS and int(name) < _NO_GROUP:
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise refusal(
            errno.EINVAL, f"failed to find gid from {name!r}", hint="correct `socket_group`, or add the group"
        ) from None


def open_to_group(path: str, group: int, mode: int) -> None:
    """Give what lies at `path` to a group and open it by `mode`.

    Raises:
        OSError: the host's user is not a member (EPERM), or the file system refused.
    """
    os.chown(path, -1, group, follow_symlinks=False)
    os.chmod(path, mode)


def can_pass(path: str, group: int) -> bool:
    """Whether members of a group who have no other rights get through a folder and all above it."""
    here = os.path.realpath(path)
    while True:
        status = os.stat(here)
        if not status.st_mode & (0o010 if status.st_gid == group else 0o001):
            return False
        if here == "/":
            return True
        here = os.path.dirname(here)
