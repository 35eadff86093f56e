"""The host's side of the guard process: start it, know that it lives, end it."""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Self

from supervisor.runners import lineage
from supervisor.runners.child import Child
from supervisor.runners.host_only import HostOnly

__all__ = ["Guard"]

_SCRIPT = "supervisor.runners.guard_process"
_REAP = 1.0


class Guard:
    """A process that kills what carries `token` and removes `directories` when this host is gone, however it went."""

    __slots__ = ("_child", "_lifeline", "directories")

    def __init__(self, child: Child, lifeline: HostOnly, directories: Sequence[str]) -> None:
        self._child = child
        self._lifeline = lifeline
        self.directories = tuple(directories)

    @staticmethod
    def possible() -> bool:
        """Whether this platform has what the guard needs: a Linux `/proc`, and a Python that can be started."""
        name = os.path.basename(sys.executable or "").lower()
        # A frozen application or an embedding server would start itself again.
        return lineage.SUPPORTED and not getattr(sys, "frozen", False) and name.startswith(("python", "pypy"))

    @classmethod
    def start(cls, token: str, directories: Sequence[str]) -> Self:
        """Start a guard in a session of its own.

        Raises:
            OSError: no descriptor or no process is to be had.
        """
        spec = find_spec(_SCRIPT)
        if spec is None or spec.origin is None or not os.path.isfile(spec.origin):
            raise FileNotFoundError(2, "the guard's script is not a file", _SCRIPT)
        reading, writing = os.pipe()
        lifeline = HostOnly(writing)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
                [sys.executable, "-I", "-S", spec.origin, token, str(os.getsid(0)), *directories],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                start_new_session=True,
            )
            return cls(Child.adopt(process), lifeline, directories)
        except BaseException:
            lifeline.close()  # ends the guard too, should it have been started
            raise
        finally:
            os.close(reading)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._child.peek() is None

    def close(self) -> None:
        """End it and reap it: with the host closing in good order there is nothing for it to do."""
        self._child.signal_group(9)
        self._child.wait_blocking(_REAP)
        self._child.close()
        self._lifeline.close()
