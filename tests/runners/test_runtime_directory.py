# Descriptors and processes are listed as the kernel names them.

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import LaunchError
from supervisor.runners.runtime_directory import MAX_SOCKET_PATH, RuntimeDirectory, remove_directory

MOUNTED = Path(__file__).parent / "mounted_host.py"


@pytest.fixture
def directory(no_leaks: None) -> Iterator[RuntimeDirectory]:
    """A host's directory in the runtime directory of the test's user."""
    directory = RuntimeDirectory()
    yield directory
    directory.close()


def test_rows_14_and_76_every_directory_is_private_and_unguessable(
    directory: RuntimeDirectory, runtime_root: Path
) -> None:
    """Whatever the umask: 0700, ours, no links, and another name each time."""
    before = os.umask(0)
    try:
        one, two = Path(directory.create_instance()), Path(directory.create_instance())
    finally:
        os.umask(before)

    assert one != two
    assert one.parent == two.parent == Path(directory.path or "")
    assert one.parent.parent == runtime_root
    for path in (one, one.parent):
        status = path.lstat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert stat.S_ISDIR(status.st_mode)
        assert status.st_uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_row_76_another_user_cannot_reach_a_socket(directory: RuntimeDirectory, runtime_root: Path) -> None:
    """The socket itself is open to the world; the directory is what keeps others out."""
    runtime_root.chmod(0o755)  # as /tmp: others may pass here
    socket_path = Path(directory.create_instance()) / "plugin"
    code = (
        "import os, socket, sys\n"
        "listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777)\n"
        "listener.listen(); os.setuid(65534)\n"
        "print(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(socket_path)], capture_output=True, check=True, timeout=20)

    assert int(done.stdout) == errno.EACCES


def test_row_12_socket_paths_stay_short(directory: RuntimeDirectory) -> None:
    """A socket with the longest name that go-plugin makes up fits, with room to spare."""
    path = os.path.join(directory.create_instance(), "plugin1234567890")

    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH


def test_row_12_a_path_that_is_too_long_is_refused_before_anything_starts(short_dir: Path) -> None:
    """The root that was asked for is too deep: a typed error with a hint, and nothing created."""
    deep = short_dir / ("x" * 60)
    deep.mkdir()

    with pytest.raises(LaunchError) as caught:
        RuntimeDirectory(str(deep)).create_instance()

    assert caught.value.errno == errno.ENAMETOOLONG
    assert caught.value.hint
    assert list(deep.iterdir()) == []


def test_a_user_directory_that_is_too_deep_is_passed_over(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no root asked for, the next candidate is taken."""
    deep = short_dir / ("x" * 60)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    directory = RuntimeDirectory()
    path = directory.create_instance()
    directory.close()

    assert not path.startswith(str(deep))


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_user_directory_open_to_others_is_passed_over(
    runtime_root: Path, mode: int, directory: RuntimeDirectory
) -> None:
    """XDG_RUNTIME_DIR must be 0700, else it is not what it claims to be."""
    runtime_root.chmod(mode)

    assert not directory.create_instance().startswith(str(runtime_root))


def test_row_14_a_shared_parent_without_the_sticky_bit_is_refused(short_dir: Path) -> None:
    """In a 0777 directory others could put their own in place of ours; with the sticky bit they cannot."""
    short_dir.chmod(0o777)
    directory = RuntimeDirectory(str(short_dir))
    with pytest.raises(LaunchError) as caught:
        directory.create_instance()
    short_dir.chmod(0o1777)
    path = directory.create_instance()
    directory.close()

    assert caught.value.errno == errno.EPERM
    assert path.startswith(str(short_dir))


def test_row_67_a_directory_that_was_cleaned_away_is_made_again(directory: RuntimeDirectory) -> None:
    """A cleaner of temporary files removed it: the next instance gets a fresh one."""
    first = Path(directory.create_instance())
    shutil.rmtree(first.parent)

    second = Path(directory.create_instance())

    assert second.is_dir()
    assert second.parent != first.parent


def test_a_directory_that_was_replaced_is_not_used(directory: RuntimeDirectory) -> None:
    """Somebody else's directory under our name gets nothing of ours, and is not removed as if it were ours."""
    first = Path(directory.create_instance())
    shutil.rmtree(first.parent)
    first.parent.mkdir()
    try:
        second = Path(directory.create_instance())
        assert second.parent != first.parent
        assert list(first.parent.iterdir()) == []
    finally:
        first.parent.rmdir()


def test_row_86_only_dead_hosts_are_swept(runtime_root: Path, directory: RuntimeDirectory) -> None:
    """A new host removes what no living host has locked, and only what looks like a host's directory."""
    alive = RuntimeDirectory()
    alive.create_instance()
    dead = runtime_root / "sup-0123abcd"
    (dead / "instance").mkdir(parents=True)
    dead.chmod(0o700)
    (dead / "instance" / "socket").touch()
    others = [runtime_root / name for name in ("sup-other", "sup-0123abcd.keep", "pulse")]
    for other in others:
        other.mkdir()
    link = runtime_root / "sup-11111111"
    link.symlink_to(others[0])

    directory.create_instance()

    try:
        assert not dead.exists()
        assert Path(alive.path or "").is_dir()
        assert all(other.is_dir() for other in others)
        assert link.is_symlink()
    finally:
        alive.close()
        link.unlink()
        for other in others:
            other.rmdir()


def test_closing_removes_everything_and_may_be_repeated(directory: RuntimeDirectory, runtime_root: Path) -> None:
    """Sockets, files and folders that plugins left go with the directory; a link's target does not."""
    keep = runtime_root / "keep"
    keep.mkdir()
    instance = Path(directory.create_instance())
    (instance / "deep" / "er").mkdir(parents=True)
    (instance / "link").symlink_to(keep)
    gone = directory.create_instance()
    remove_directory(gone)
    remove_directory(gone)
    directory.close()
    directory.close()

    assert list(runtime_root.iterdir()) == [keep]
    keep.rmdir()


def _in_mounted(options: str, *commands: str) -> dict[str, object]:
    """Run the mounted host with a tmpfs at /mnt that has these options."""
    script = f"mount -t tmpfs -o {options} none /mnt && " + " && ".join((*commands, f"{sys.executable} {MOUNTED}"))
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts file systems in a namespace of its own"
)


@needs_mount
@pytest.mark.parametrize(
    ("options", "commands", "expected"),
    [
        ("nr_inodes=1,mode=0700", (), errno.ENOSPC),
        ("mode=0700", ("mount -o remount,ro /mnt",), errno.EROFS),
    ],
    ids=["ENOSPC", "EROFS"],
)
def test_row_67_a_file_system_that_refuses_is_a_typed_error(
    options: str, commands: tuple[str, ...], expected: int
) -> None:
    """A full and a read-only file system are told apart, before anything is started."""
    assert _in_mounted(options, *commands) == {"errno": expected, "hinted": True, "children": 0}


@needs_mount
def test_row_1_a_program_on_a_noexec_mount_is_a_typed_error() -> None:
    """The mode says executable, the mount says no: EACCES, with the mount as the hint."""
    told = _in_mounted("mode=0700,noexec", "cp /bin/true /mnt/program")

    assert told == {"errno": errno.EACCES, "hinted": True, "children": 0}
