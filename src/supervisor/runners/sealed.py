"""Copies of files that nobody can change any more, so that what was checked is what runs.

A path may lead elsewhere a moment after it was looked at, and a file may be rewritten while it is executed. A memory file
can be sealed: from then on the kernel refuses every change, ours included. The digest is taken of the sealed copy.

A copy is executed and read as `/proc/self/fd/N`, so the child must inherit the descriptor.
"""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys

from anyio.lowlevel import checkpoint

from supervisor.errors import ChecksumError, LaunchError
from supervisor.runners.host_only import HostOnly
from supervisor.runners.launch_errors import refusal

if sys.platform == "linux":
    import fcntl

__all__ = ["SealedFiles", "descriptor_path", "is_script"]

_CHUNK = 1 << 20
"""Bytes handled in one turn of the loop: about two milliseconds."""

_MFD_EXEC = 0x10
"""Not named by Python yet. Linux 6.3 and later ask for it where `vm.memfd_noexec` is 1; older kernels refuse it."""


def descriptor_path(descriptor: int) -> str:
    """Return the name by which a process that has inherited a descriptor opens or executes the file behind it."""
    return f"/proc/self/fd/{descriptor}"


def is_script(descriptor: int) -> bool:
    """Whether the file behind a descriptor begins with `#!`: its interpreter opens it again, after the exec."""
    return os.pread(descriptor, 2, 0) == b"#!"


class SealedFiles:
    """The sealed copies of one host, by digest. They are kept until `close()`, so each file is read once."""

    def __init__(self) -> None:
        self._copies: dict[str, HostOnly] = {}
        self._closed = False

    async def seal(self, path: str, digest: str) -> int:
        """Return the descriptor of a sealed copy of the file at `path`, which has this SHA-256 digest.

        Safe to cancel. A file that was copied before is not looked at again.

        Raises:
            ChecksumError: it has another digest.
            LaunchError: it is not a regular file, or this system has no memory files that can be sealed and executed.
            OSError: it cannot be read, or memory is short.
        """
        if digest not in self._copies:
            copy = await _copy(path, digest)
            if self._closed or digest in self._copies:  # meanwhile
                copy.close()
            else:
                self._copies[digest] = copy
        if self._closed:
            raise LaunchError("the runner is closed")
        return self._copies[digest].fileno()

    def close(self) -> None:
        """Forget all copies; idempotent. Processes that run from one keep it."""
        self._closed = True
        for copy in self._copies.values():
            copy.close()
        self._copies.clear()


async def _copy(path: str, expected: str) -> HostOnly:
    copy = _create()
    try:
        await _fill(copy.fileno(), path)
        # Before it is read for the digest, not after: another process of this user could have it open.
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(copy.fileno(), fcntl.F_ADD_SEALS, seals)
        _compare(path, expected=expected, actual=await _digest(copy.fileno()))
    except BaseException:
        copy.close()
        raise
    return copy


def _compare(path: str, *, expected: str, actual: str) -> None:
    if actual != expected:
        raise ChecksumError(
            f"checksums did not match: {path!r} has sha256 {actual[:12]}…, and {expected[:12]}… is pinned",
            path=path,
            expected=expected,
            actual=actual,
            hint="restore the file, or pin what it is now if that is meant; "
            'a text pins the program, and { "argument" = "digest" } a file among its arguments',
        )


def _create() -> HostOnly:
    """Make an empty memory file that may be executed."""
    if sys.platform != "linux":
        raise LaunchError("sha256 needs Linux: no other system has memory files that can be sealed and executed")
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        try:
            descriptor = os.memfd_create("plugin", flags | _MFD_EXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            descriptor = os.memfd_create("plugin", flags)
    except PermissionError as error:
        raise refusal(
            errno.EACCES,
            "sha256 needs memory files that may be executed",
            hint="set the sysctl vm.memfd_noexec to 0 or 1",
        ) from error
    copy = HostOnly(descriptor)
    try:
        os.fchmod(descriptor, stat.S_IRUSR | stat.S_IXUSR)
    except BaseException:
        copy.close()
        raise
    return copy


async def _fill(descriptor: int, path: str) -> None:
    # O_NONBLOCK: somebody may have put a pipe in its place, and opening that would wait for a writer.
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise refusal(errno.EACCES, f"cannot check {path!r}: it is not a regular file", hint="name a file")
        left = status.st_size  # a file that grows under our hands is not copied for ever
        while left and (chunk := os.read(source, min(left, _CHUNK))):
            left -= len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
            await checkpoint()
    finally:
        os.close(source)


async def _digest(descriptor: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
        await checkpoint()
    return digest.hexdigest()
