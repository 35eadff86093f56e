"""Who could have put a program where it is, and who could replace it?

A check before the exec leaves a window; but what only root and the host's own user can write, nobody else changes in it.
"""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from supervisor.runners.launch_errors import refusal

__all__ = ["check_inside", "check_ownership"]

_LINKS = 40
"""Symbolic links in one path that the kernel follows."""

_SHARED = stat.S_IWGRP | stat.S_IWOTH


def check_ownership(path: str) -> None:
    """Make sure that nobody but root and our user can write the file at `path` or lead the path to another one.

    Everything on the way is looked at: the folders up to the root, symbolic links, and the folders of what they lead to.
    Each must belong to root or to us, and neither the file nor a folder may be writable to others; a folder with the
    sticky bit may, since there only owners replace what is theirs.

    Raises:
        LaunchError: something on the way is not so; it names that.
        OSError: something on the way cannot be looked at.
    """
    trusted = {0, os.geteuid()}
    for place in _on_the_way(path):
        status = os.lstat(place)
        mode = status.st_mode
        if status.st_uid not in trusted:
            raise refusal(
                errno.EPERM,
                f"{path!r} is not trusted: {place!r} belongs to user {status.st_uid}",
                hint=f"chown {place} to root or to the host's user, or set verify_owner = false",
            )
        sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
        if mode & _SHARED and not stat.S_ISLNK(mode) and not sticky:  # a link's own mode means nothing
            raise refusal(
                errno.EPERM,
                f"{path!r} is not trusted: others can write {place!r} (mode {stat.S_IMODE(mode):04o})",
                hint=f"chmod go-w {place}, or set verify_owner = false",
            )


def check_inside(path: str, directory: str) -> None:
    """Make sure that the file at `path`, links resolved, lies in a directory that is not itself a link.

    Raises:
        LaunchError: it does not.
        OSError: the directory cannot be looked at.
    """
    if stat.S_ISLNK(os.lstat(os.path.abspath(directory)).st_mode):
        raise refusal(
            errno.EPERM, f"plugin_dir {directory!r} is a symbolic link", hint="name the directory it leads to"
        )
    home = os.path.realpath(directory)
    real = os.path.realpath(path)
    if os.path.commonpath((home, real)) != home:
        leads = "" if real == path else f", which is {real!r},"
        raise refusal(
            errno.EPERM, f"{path!r}{leads} does not lie in plugin_dir {directory!r}", hint="move the program there"
        )


def _on_the_way(path: str) -> Iterator[str]:
    """Yield everything that decides where an absolute path leads, the file included."""
    yield "/"
    here, links = "/", 0
    parts = path.split("/")[::-1]
    while parts:
        part = parts.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, part)
        yield step
        if not os.path.islink(step):
            here = step
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(step)
        here = "/" if target.startswith("/") else here
        parts += target.split("/")[::-1]
