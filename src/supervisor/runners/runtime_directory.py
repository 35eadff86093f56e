"""Where plugins put their sockets: a private directory per host, and one inside it per instance.

Unix sockets are protected by the directory they lie in (many programs create them world-accessible) and their paths are
limited to about a hundred bytes, so the directory is 0700, ours, and short. It is locked while the host lives: the next
host removes directories whose lock it can take, and systemd-tmpfiles leaves locked directories alone.
"""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator

from supervisor.runners.host_only import HostOnly
from supervisor.runners.launch_errors import refusal
from supervisor.runners.socket_group import INSIDE, PASSAGE, can_pass, open_to_group

if sys.platform != "win32":
    import fcntl

__all__ = ["MAX_SOCKET_PATH", "RuntimeDirectory", "is_surviving", "remove_directory"]

MAX_SOCKET_PATH = 90
"""Bytes that a socket's path may have; the kernels take 103 (macOS) and 107 (Linux)."""

_SOCKET_NAME = 24  # go-plugin's are `plugin` and up to ten digits
_PREFIX = "sup-"
_NAME = re.compile(rf"{_PREFIX}[0-9a-f]{{8}}")
_ATTEMPTS = 16


class RuntimeDirectory:
    """The directory of one host. Created at the first use, removed by `close()`, by the guard or by the next host."""

    def __init__(self, root: str | None = None, *, group: int | None = None) -> None:
        """Use `root` as the parent; the first usable of the user's runtime directory and the temporary ones if None.

        With a group its members may pass, and the parent is one where they can: not the user's runtime directory.
        """
        self._root = root
        self._group = group
        self._path: str | None = None
        self._lock: HostOnly | None = None

    @property
    def path(self) -> str | None:
        """The host's directory; None before the first instance and after `close()`."""
        return self._path

    def create_instance(self) -> str:
        """Create a directory for one instance and return its path.

        The host's own is created first if there is none, or not any more (somebody cleaned the temporary directory).

        Raises:
            OSError: the file system refused (ENOSPC, EROFS, EACCES ...).
            LaunchError: no candidate is short or private enough.
        """
        if self._path is None or not self._is_intact():
            self._abandon()
            self._path, self._lock = _create_in_first_usable(self._root, self._group, PASSAGE)
        path = _make_directory(self._path, "")
        try:
            if self._group is not None:
                open_to_group(path, self._group, INSIDE)
        except BaseException:
            remove_directory(path)
            raise
        return path

    def create_surviving(self) -> tuple[str, HostOnly]:
        """Create a directory that is not inside the host's and return its path and its lock.

        For as long as somebody holds the lock, no host takes it for what a dead one has left.

        Raises:
            OSError, LaunchError: as `create_instance`.
        """
        return _create_in_first_usable(self._root, self._group, INSIDE)

    def close(self) -> None:
        """Remove everything; idempotent, never raises."""
        if self._path is not None and self._is_intact():
            shutil.rmtree(self._path, ignore_errors=True)
        self._abandon()

    def _is_intact(self) -> bool:
        """Whether the path still leads to the directory that we created: in a shared folder it might be another's."""
        assert self._path is not None
        assert self._lock is not None
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(self._lock.fileno()))
        except OSError:
            return False

    def _abandon(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self._path = self._lock = None


def is_surviving(path: str) -> bool:
    """Whether a path is that of a directory as `create_surviving` makes them, and only we can write into it."""
    return _NAME.fullmatch(os.path.basename(path)) is not None and _is_ours(path)


def remove_directory(path: str) -> None:
    """Remove the directory of one instance and what it holds; never raises."""
    shutil.rmtree(path, ignore_errors=True)


def _create_in_first_usable(root: str | None, group: int | None, mode: int) -> tuple[str, HostOnly]:
    problem: Exception | None = None
    for candidate in _candidates() if root is None else (root,):
        try:
            _check_parent(candidate, group)
            _remove_dead_hosts(candidate)
            return _create_locked(candidate, group, mode)
        except Exception as error:  # noqa: BLE001 - the next candidate may do; the last word is raised below
            problem = problem or error
    assert problem is not None
    raise problem


def _candidates() -> Iterator[str]:
    """Yield the possible parents, best first: a user's runtime directory is private and in memory."""
    for runtime in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"):
        if os.path.isabs(runtime) and _is_private(runtime):
            yield runtime
    yield tempfile.gettempdir()
    yield "/tmp"  # noqa: S108 - a parent for a directory with an unguessable name and mode 0700


def _is_private(path: str) -> bool:
    return _is_ours(path, closed_to=0o077)


def _is_ours(path: str, closed_to: int = 0o027) -> bool:
    """Whether it is a directory of ours without these rights for others; a group may look in if it must."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & closed_to


def _check_parent(path: str, group: int | None) -> None:
    """Refuse a parent with too long a path, one that keeps our group out, or where others could swap our directory."""
    longest = len(os.fsencode(path)) + len("/sup-01234567/01234567/") + _SOCKET_NAME
    if longest > MAX_SOCKET_PATH:
        raise refusal(
            errno.ENAMETOOLONG,
            f"socket paths in {path!r} would have {longest} bytes, more than {MAX_SOCKET_PATH}",
        )
    try:
        status = os.stat(path)
    except OSError as error:
        raise refusal(
            error.errno or 0,
            f"cannot put sockets into {path!r}: {error.strerror}",
            hint="create it, or point XDG_RUNTIME_DIR or TMPDIR elsewhere",
        ) from error
    shared = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    if shared or status.st_uid not in (0, os.geteuid()):
        raise refusal(
            errno.EPERM,
            f"others could replace a directory in {path!r}",
            hint="use a runtime directory of your own, or one with the sticky bit",
        )
    if group is not None and not can_pass(path, group):
        raise refusal(errno.EACCES, f"group {group} cannot get into {path!r}", hint="point TMPDIR to /tmp")


def _create_locked(parent: str, group: int | None, mode: int) -> tuple[str, HostOnly]:
    for _ in range(_ATTEMPTS):
        path = _make_directory(parent, _PREFIX)
        lock = _take_lock(path)
        if lock is None:
            continue
        try:
            if group is not None:
                open_to_group(path, group, mode)
        except BaseException:
            remove_directory(path)
            lock.close()
            raise
        return path, lock
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), parent)


def _make_directory(parent: str, prefix: str) -> str:
    for _ in range(_ATTEMPTS):
        path = os.path.join(parent, f"{prefix}{secrets.token_hex(4)}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), parent)


def _take_lock(path: str) -> HostOnly | None:
    """Lock a directory of ours; None when another host has it, or removed it under our hands.

    Between our mkdir and our flock a starting host may take ours for a dead one's: it locks first, so we notice.
    """
    held = HostOnly(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
    try:
        fcntl.flock(held.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(held.fileno())
        if os.path.samestat(status, os.lstat(path)) and status.st_uid == os.geteuid():
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        held.close()
        raise
    held.close()
    return None


def _remove_dead_hosts(parent: str) -> None:
    """Remove directories of hosts that died together with their guard: those whose lock can be taken."""
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    for name in names:
        path = os.path.join(parent, name)
        if not _is_ours(path):
            continue
        with contextlib.suppress(OSError):
            lock = _take_lock(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                lock.close()
