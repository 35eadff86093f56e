"""Find the program that a command names and say what it is, before anything is started.

The kernel answers a bad program with one errno and no explanation ("No such file or directory" for a script that is
there but whose interpreter is not). Looking first gives a better answer, and tells whether the program may be started
through a launcher: a launcher that runs a file of unknown format would hand it to a shell.
"""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import enum
import errno
import os
import stat
import struct
from dataclasses import dataclass
from functools import cache

from supervisor.runners.launch_errors import refusal

__all__ = ["Format", "Program", "check_directory", "resolve_program"]

_HEADER = 4096
_PT_INTERP = 3
_NESTING = 4  # the kernel follows `#!` into scripts this often


class Format(enum.Enum):
    """What the first bytes of a program say."""

    NATIVE = "native"
    SCRIPT = "script"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Program:
    """A program that exists and may be executed.

    Attributes:
        path: absolute, symbolic links kept (an interpreter finds its virtual environment by its own path).
        format: `UNKNOWN` is for the kernel to judge (it may have a handler for it, or refuse).
    """

    path: str
    format: Format


def resolve_program(name: str, *, search: str, cwd: str | None) -> Program:
    """Find `name` and look at it.

    Args:
        name: searched in `search` when it has no slash, else taken relative to `cwd`.
        search: the plugin's PATH. Empty entries are ignored: a program is never picked up from the working directory
            by accident.
        cwd: the plugin's working directory; the host's own when None.

    Raises:
        LaunchError: it is missing, not a file, not executable, for another machine's loader, or its interpreter is
            missing.
    """
    base = os.path.abspath(cwd or os.getcwd())
    if "/" in name:
        path = os.path.join(base, name)
        _check_executable(path)
    else:
        path = _search(name, search, base)
    return Program(path, _classify(path, search, base))


def check_directory(cwd: str | None) -> None:
    """Make sure that a process could start in `cwd`.

    Raises:
        LaunchError: it is missing, not a directory, or closed to us.
    """
    if cwd is None:
        return
    try:
        mode = os.stat(cwd).st_mode
    except OSError as error:
        raise refusal(error.errno or 0, f"cannot start in {cwd!r}: {error.strerror}", hint="check `cwd`") from error
    if not stat.S_ISDIR(mode):
        raise refusal(errno.ENOTDIR, f"cannot start in {cwd!r}: it is not a directory", hint="check `cwd`")
    if not _may_execute(cwd):
        raise refusal(errno.EACCES, f"cannot start in {cwd!r}: permission denied", hint="check `cwd`")


def _search(name: str, search: str, base: str) -> str:
    denied = None
    for folder in filter(None, search.split(os.pathsep)):
        path = os.path.join(base, folder, name)
        if not os.path.isfile(path):
            continue
        if _may_execute(path):
            return path
        denied = denied or path
    if denied:
        raise refusal(errno.EACCES, f"{denied!r} is not executable", hint=f"chmod +x {denied}")
    raise refusal(errno.ENOENT, f"no program {name!r} in PATH ({search or 'empty'})")


def _check_executable(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise refusal(error.errno or 0, f"cannot run {path!r}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise refusal(errno.EACCES, f"cannot run {path!r}: it is a directory", hint="name the program inside it")
    if not stat.S_ISREG(mode):
        raise refusal(errno.EACCES, f"cannot run {path!r}: it is not a regular file", hint="name a program")
    if not _may_execute(path):
        noexec = os.statvfs(path).f_flag & os.ST_NOEXEC
        hint = "its file system is mounted noexec" if noexec else f"chmod +x {path}"
        raise refusal(errno.EACCES, f"{path!r} is not executable", hint=hint)


def _may_execute(path: str) -> bool:
    return os.access(path, os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _classify(path: str, search: str, base: str, depth: int = 0) -> Format:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEADER)
    except PermissionError:
        return Format.UNKNOWN  # one may execute what one may not read; the kernel will know
    if head.startswith(b"#!"):
        if depth < _NESTING:
            _check_interpreter(path, head, search, base, depth)
        return Format.SCRIPT
    if head[:20] and _machine(head) == _own_machine():
        _check_loader(path, head)
        return Format.NATIVE
    return Format.UNKNOWN


def _check_interpreter(path: str, head: bytes, search: str, base: str, depth: int) -> None:
    """Check the interpreter that a script names, and the program that `env` would have to find for it."""
    line = os.fsdecode(head[2:].split(b"\n", 1)[0])
    name, _, argument = line.strip(" \t").partition(" ")
    if name.endswith("\r") or argument.endswith("\r"):
        raise refusal(
            errno.ENOENT, f"the `#!` line of {path!r} ends in a carriage return", hint="save it with Unix line ends"
        )
    interpreter = os.path.join(base, name)
    if not name or not os.path.isfile(interpreter) or not _may_execute(interpreter):
        raise refusal(errno.ENOENT, f"the interpreter {name!r} of {path!r} is missing", hint="correct its `#!` line")
    wanted = argument.strip(" \t").split(" ")[0]
    if os.path.basename(name) == "env" and wanted and not wanted.startswith("-") and "=" not in wanted:
        resolve_program(wanted, search=search, cwd=base)
    else:
        _classify(interpreter, search, base, depth + 1)


def _machine(head: bytes) -> tuple[bytes, bytes] | None:
    """The ELF class and byte order, and the machine; None for anything but ELF."""
    return (head[4:6], head[18:20]) if head.startswith(b"\x7fELF") else None


@cache
def _own_machine() -> tuple[bytes, bytes] | None:
    try:
        with open("/proc/self/exe", "rb") as file:
            return _machine(file.read(_HEADER))
    except OSError:
        return None


def _check_loader(path: str, head: bytes) -> None:
    """Refuse a program whose dynamic loader is not installed (built for another C library)."""
    loader = _loader(head)
    if loader is not None and not os.path.exists(loader):
        raise refusal(
            errno.ENOENT,
            f"the loader {os.fsdecode(loader)!r} of {path!r} is missing",
            hint="it was built for another C library or distribution",
        )


def _loader(head: bytes) -> bytes | None:
    """The path in the PT_INTERP program header, when it lies within the bytes that were read (it does in practice)."""
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"  # noqa: PLR2004 - ELFCLASS64
    try:
        (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        for index in range(count):
            entry = table + index * size
            if struct.unpack_from(f"{order}I", head, entry) != (_PT_INTERP,):
                continue
            (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, entry + (8 if wide else 4))
            (length,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, entry + (32 if wide else 16))
            return head[offset : offset + length].rstrip(b"\0") or None
    except (struct.error, OverflowError):
        return None  # a strange layout is for the kernel to judge
    return None
