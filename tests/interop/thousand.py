"""Launch and stop a plugin many times, in each direction, and look what is left.

python tests/interop/thousand.py --count 1000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kv"))

import peers
from kv_proto import GetRequest, KvStub, PutRequest

from supervisor import Supervisor

__all__ = ["DIRECTIONS", "Lives", "live"]

DIRECTIONS: Final = {"python-go": "Python host → Go plugin", "go-python": "Go host → Python plugin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """What came of many lives.

    Attributes:
        count: how many there were.
        seconds: how long they took, one after another.
        failed: steps that failed: a launch, a call, a stop.
        left: processes, sockets, files, directories and descriptors that were there afterwards.
    """

    count: int
    seconds: float
    failed: int
    left: tuple[str, ...]

    def __str__(self) -> str:
        left = ", ".join(self.left) or "nothing"
        return f"{self.count:,} lives in {self.seconds:.1f} s, {self.failed} failed steps, left behind: {left}"


def live(direction: str, go: Path, count: int) -> Lives:
    """Run `count` lives; all that they may leave lies in a folder of this function's own, or carries its token."""
    with tempfile.TemporaryDirectory(prefix="lives") as folder, _own_corner(folder) as token:
        before, begun = set(os.listdir("/proc/self/fd")), time.monotonic()
        failed = _LIVES[direction](go, count)
        seconds = time.monotonic() - begun
        after = set(os.listdir("/proc/self/fd"))
        left = [*_processes(token), *_sockets(folder), *_files(folder)]
        return Lives(
            count=count,
            seconds=seconds,
            failed=failed,
            left=(*left, *(f"descriptor {number}" for number in sorted(after - before))),
        )


def _live_under_our_host(go: Path, count: int) -> int:
    async def once() -> None:
        async with Supervisor([peers.go_plugin(go, "kv")], observers=()) as supervisor:
            kv = await supervisor.dispense("peer", KvStub)
            await kv.put(PutRequest(key="key", value=b"value"))
            await kv.get(GetRequest(key="key"))

    async def all_of_them() -> None:
        for _ in range(count):
            await once()

    asyncio.run(all_of_them())
    return 0


def _live_under_a_go_host(go: Path, count: int) -> int:
    command = peers.python_command("served_kv.py")
    steps = peers.go_host(go, "kv", "-loop", str(count), command=command, patience=60 + 5 * count)
    return int(steps[-1]["failed_steps"])


_LIVES: Final = {"python-go": _live_under_our_host, "go-python": _live_under_a_go_host}


@contextlib.contextmanager
def _own_corner(folder: str) -> Iterator[str]:
    """Have everything that is started put its files into `folder`, and carry a token."""
    token = f"lives-{os.path.basename(folder)}"
    changed = {"TMPDIR": folder, "XDG_RUNTIME_DIR": folder, "SUPERVISOR_LINEAGE": token}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield token
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _processes(token: str) -> Iterator[str]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if int(pid) != os.getpid() and token.encode() in environment:
                yield f"process {pid}"


def _sockets(folder: str) -> Iterator[str]:
    for line in Path("/proc/net/unix").read_text().splitlines():
        if folder in line:
            yield f"socket {line.split()[-1]}"


def _files(folder: str) -> Iterator[str]:
    for path in Path(folder).rglob("*"):
        yield f"{'directory' if path.is_dir() else 'file'} {path}"


def main() -> int:
    """Run and print; the exit status is 1 when a step failed or something is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="lives in each direction")
    parser.add_argument("--direction", choices=DIRECTIONS, action="append", help="both when left out")
    options = parser.parse_args()
    clean = True
    with tempfile.TemporaryDirectory(prefix="go") as folder:
        peers.build(Path(folder))
        for direction in options.direction or DIRECTIONS:
            lives = live(direction, Path(folder), options.count)
            print(f"{DIRECTIONS[direction]}: {lives}", flush=True)  # noqa: T201  # what the command is for
            clean = clean and not lives.failed and not lives.left
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
