"""However the host dies, its plugins' trees die with it. Hosts here are processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.runners.guard import Guard
from supervisor.runners.runtime_directory import RuntimeDirectory
from supervisor.runners.subprocess import SubprocessRunner
from supervisor.spec import PluginSpec

HERE = Path(__file__).parent
EVIL = HERE.parent / "evil"


@contextmanager
def host(way: str, guard: str, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Start a host that will die in this way once a line is written to it; yield it and what it said."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "dying_host.py"), way, guard, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def die(process: subprocess.Popen[bytes]) -> None:
    """Tell the host to die."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


@pytest.mark.parametrize(
    "way", ["sigkill", "sigterm", "_exit", "segfault", "abort", "exec", "exception", "end", "forked"]
)
def test_row_36_no_way_for_the_host_to_die_leaves_orphans(way: str, witness: Any) -> None:
    """The plugin, its children, those that left its session and the orphaned ones are gone within a second."""
    with host(way, "guard", sys.executable, str(EVIL / "family.py")) as (process, told):
        witness.watch(*told["pids"].values(), told["guard"])
        if way not in ("exec", "forked"):
            die(process)
            process.wait(10)
        else:
            die(process)

        survivors = witness.survivors(within=1)

        assert survivors <= {told["guard"]}
        assert witness.survivors(within=3) == set(), "the guard goes too"
        assert not Path(told["directory"]).exists()


def test_row_36_the_kernel_kills_the_plugin_itself_without_any_guard(witness: Any) -> None:
    """The parent-death signal needs nobody's help and takes no more than 100 ms."""
    with host("sigkill", "alone", sys.executable, str(EVIL / "family.py")) as (process, told):
        witness.watch(told["pids"]["leader"])
        die(process)
        process.wait(10)

        assert witness.survivors(within=0.1) == set()
        # The children are the guard's business, and there is none here: the witness kills them when it goes.
        witness.watch(*(pid for kind, pid in told["pids"].items() if kind != "leader"))
    clear_up_as_the_next_host_does(told)


def clear_up_as_the_next_host_does(told: dict[str, Any]) -> None:
    """Start and close a host, which removes what a host without a guard has left."""
    assert Path(told["directory"]).exists()
    directory = RuntimeDirectory()
    directory.create_instance()
    directory.close()
    assert not Path(told["directory"]).exists()


def test_row_36_standard_input_ends_with_the_host(witness: Any) -> None:
    """A program that watches its standard input needs neither the kernel's signal nor the guard, nor a lineage."""
    with host("sigkill", "alone", sys.executable, str(EVIL / "watched_stdin.py")) as (process, told):
        witness.watch(*told["pids"].values())
        die(process)

        assert witness.survivors(within=1) == set()
    clear_up_as_the_next_host_does(told)


async def test_a_guard_that_was_killed_is_replaced(witness: Any) -> None:
    """The next launch finds the guard dead and starts another."""
    runner = SubprocessRunner()
    spec = PluginSpec(name="a", command=("/bin/true",))
    try:
        await runner.launch(spec, generation=1, variables={})
        first = runner._guard
        assert first is not None
        first._child.signal_group(9)
        first._child.wait_blocking(5)
        await runner.launch(spec, generation=2, variables={})
        second = runner._guard
        assert second is not None
        assert second is not first
        assert second.alive()
        witness.watch(second.pid)
    finally:
        runner.close()

    assert witness.survivors(within=0) == set()


def test_no_guard_where_python_cannot_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen application or an embedding server would start itself, not an interpreter."""
    assert Guard.possible()

    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert not Guard.possible()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not Guard.possible()
