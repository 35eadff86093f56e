"""The guard: a tiny process that outlives the host by a moment and clears up after it.

Run as `python -I -S guard_process.py TOKEN SESSION DIRECTORY...` with a pipe on standard input whose other end the host
alone holds. However the host ends (SIGKILL, segmentation fault, exec, a plain exit without closing anything), the kernel
closes that end; the guard then kills everything that carries the host's token and removes its runtime directories.

Standard library only: it must start fast and must not depend on the host's packages.
"""

# Plain strings: pathlib would slow the guard's start.

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import ModuleType

# A child that the host was just starting has not shown the token yet when the host died: look again a little later.
_PAUSES = (0.0, 0.05, 0.2)
_PATIENCE = 5.0


def _load_lineage() -> ModuleType:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lineage.py")
    spec = importlib.util.spec_from_file_location("lineage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(token: str, session: int, directories: Sequence[str]) -> None:
    """Wait until the host is gone, then kill what it left and remove its directories."""
    # Whoever asks politely (a terminal, a service manager) means the host. The host itself uses SIGKILL.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    lineage = _load_lineage()
    while os.read(0, 64):
        pass
    for pause in _PAUSES:
        time.sleep(pause)
        lineage.sweep(token, spare=(session,), timeout=_PATIENCE)
    import shutil  # noqa: PLC0415 - slow to import, and needed only now that the killing is done

    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
