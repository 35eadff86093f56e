"""Become a program that lies in a memory file, under the name of the file that it was copied from.

Run as `python -I -S sealed_exec.py DESCRIPTOR KEEP ARGUMENT...`, where the first argument is the program's own name. No
launcher that sets the parent-death signal also sets another name than the path it executes, and programs look for their
surroundings by that name: an interpreter finds its virtual environment so.

With KEEP `1` the program inherits the descriptor, which a script's interpreter needs; with `0` it ends with this one.

Standard library only: it must start fast and must not depend on the host's packages.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main(descriptor: int, keep: str, arguments: list[str]) -> None:
    """Do it; on failure say so on stderr and exit with 126, as shells do."""
    os.set_inheritable(descriptor, keep == "1")
    try:
        os.execve(f"/proc/self/fd/{descriptor}", arguments, _given_environment())  # noqa: S606 - that is the point
    except OSError as error:
        sys.stderr.write(f"cannot execute the sealed copy of {arguments[0]!r}: {error.strerror}\n")
        sys.exit(126)


def _given_environment() -> dict[bytes, bytes]:
    """Return what the host gave, in its order; the interpreter may have added a locale to `os.environ`."""
    with open("/proc/self/environ", "rb") as file:
        items = file.read().split(b"\0")
    return {name: value for name, mark, value in (item.partition(b"=") for item in items) if mark}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
