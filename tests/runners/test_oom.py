from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.runners.oom import OomCounter


def system(tmp_path: Path, membership: str, **files: str) -> tuple[str, str]:
    """Make a /proc with one process, 7, and a control group tree; return both roots."""
    (tmp_path / "proc" / "7").mkdir(parents=True)
    (tmp_path / "proc" / "7" / "cgroup").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path / "cgroup"), str(tmp_path / "proc")


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        ("0::/app/plugin\n", "app/plugin/memory.events"),
        ("0::/\n", "memory.events"),
        ("0::/host/side/path\n", "memory.events"),
        ("1:name=systemd:/\n0::/app\n", "unified/app/memory.events"),
        ("4:memory:/app\n0::/\n", "memory/app/memory.oom_control"),
        ("4:memory,hugetlb:/docker/1234\n", "memory/memory.oom_control"),
    ],
    ids=["v2", "v2-root", "v2-in-a-container", "hybrid", "v1", "v1-in-a-container"],
)
def test_a_kill_since_launch_is_seen(tmp_path: Path, membership: str, file: str) -> None:
    """The counter of the process's own group is compared with its value at launch, wherever it is mounted."""
    root, proc = system(tmp_path, membership, **{file.replace(".", "_dot_"): "low 0\noom 4\noom_kill 3\n"})
    counter = OomCounter(7, root=root, proc=proc)
    before = counter.increased()
    (Path(root) / file).write_text("low 0\noom 5\noom_kill 4\n")

    assert (before, counter.increased()) == (False, True)


def test_what_cannot_be_read_is_no(tmp_path: Path) -> None:
    """No process, no file, and a file that goes away after launch: the answer is no, never an error."""
    root, proc = system(tmp_path, "0::/app\n", app__memory_dot_events="oom_kill 0\n")
    counter = OomCounter(7, root=root, proc=proc)
    (Path(root) / "app" / "memory.events").unlink()

    assert not counter.increased()
    assert not OomCounter(8, root=root, proc=proc).increased()
    assert not OomCounter(os.getpid(), root="/nowhere").increased()


@given(st.binary(max_size=80), st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_nonsense_is_no(tmp_path: Path, membership: bytes, events: bytes) -> None:
    """Whatever the files hold, reading them raises nothing."""
    (tmp_path / "proc" / "7").mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc" / "7" / "cgroup").write_bytes(b"0::/\n" + membership)
    (tmp_path / "memory.events").write_bytes(b"oom_kill " + events)

    assert not OomCounter(7, root=str(tmp_path), proc=str(tmp_path / "proc")).increased()
