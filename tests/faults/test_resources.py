"""Row 67 of the fault table: a runtime directory that is gone, full or read-only."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from kv_proto import GetRequest, KvStub, PutRequest
from watching import Log, exit_of

from supervisor import PluginSpec, State, Supervisor
from supervisor.errors import LaunchError
from supervisor.events import HandshakeDone, InstanceLaunched
from supervisor.runners.subprocess import SubprocessRunner

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Return a directory whose paths are short enough for sockets, and which is not the host's."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        yield Path(directory)


async def test_row_67_cleaner_of_temporary_files(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """A cleaner that removes the host's directory under a running plugin breaks no call; the next life gets another one."""
    async with supervise(kv()) as supervisor:
        stub = await supervisor.dispense(KvStub)
        removed = Path(log.of(HandshakeDone)[0].address).parent.parent
        shutil.rmtree(removed)
        await stub.put(PutRequest(key="a", value=b"1"))
        assert (await stub.get(GetRequest(key="a"))).value == b"1"
        os.kill(supervisor.plugin("store").pid or 0, signal.SIGKILL)
        await exit_of(supervisor)
        assert (await stub.get(GetRequest(key="a"))).value == b""
        assert supervisor.plugin("store").generation == 2
        assert Path(log.of(HandshakeDone)[1].address).parent.parent != removed
        await supervisor.plugin("store").restart()


async def test_row_67_root_that_is_missing(supervise: Supervise, kv: MakeSpec, log: Log, elsewhere: Path) -> None:
    """A runtime root that does not exist is a LaunchError that says so before anything is started; made, it does."""
    root = elsewhere / "r"
    async with supervise(kv(), runner=partial(SubprocessRunner, runtime_root=str(root))) as supervisor:
        error = (await exit_of(supervisor)).error
        assert isinstance(error, LaunchError)
        assert error.errno == errno.ENOENT
        assert str(root) in str(error)
        assert "TMPDIR" in (error.hint or "")
        assert supervisor.plugin("store").state is State.FAILED
        assert log.of(InstanceLaunched) == []
        root.mkdir(mode=0o700)
        await supervisor.plugin("store").restart()
        shutil.rmtree(root)  # under the running plugin, root and all
        os.kill(supervisor.plugin("store").pid or 0, signal.SIGKILL)
        await supervisor.plugin("store").wait_at_rest()
        root.mkdir(mode=0o700)
        await supervisor.plugin("store").restart()
    assert list(root.iterdir()) == []


FULL = ("nr_inodes=2,mode=0700", "nr_inodes=1000", errno.ENOSPC, False)
NO_ROOM_AT_ALL = ("nr_inodes=1,mode=0700", "nr_inodes=1000", errno.ENOSPC, False)
READ_ONLY = ("remount,mode=0700,ro", "rw", errno.EROFS, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems in a namespace of its own")
@pytest.mark.parametrize(
    ("refusing", "mended", "number", "gives_up"),
    [FULL, NO_ROOM_AT_ALL, READ_ONLY],
    ids=["full", "no room", "read-only"],
)
def test_row_67_file_system_that_refuses(
    elsewhere: Path, refusing: str, mended: str, number: int, gives_up: bool
) -> None:
    """A full or read-only file system is a LaunchError with errno and hint before anything is started.

    The one that may pass by itself is tried again until it does; the other is given up on, until somebody restarts.
    """
    program = Path(__file__).parent / "refused_host.py"
    command = ["unshare", "-m", sys.executable, str(program), str(elsewhere), refusing, mended]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert "TMPDIR" in told.pop("hint")
    assert told == {"errno": number, "launched": 0, "gave_up": gives_up, "answers": True, "left": []}
