"""A group of users may reach a plugin's sockets when the specification says so."""

# Descriptors and processes are listed as the kernel names them; blocking for a moment hurts nobody here.
# ruff: noqa: ASYNC240

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from supervisor.address import UnixAddress
from supervisor.errors import LaunchError
from supervisor.runners.runtime_directory import RuntimeDirectory
from supervisor.runners.socket_group import can_pass, find_group
from supervisor.runners.subprocess import SubprocessProcess, SubprocessRunner
from supervisor.spec import PluginSpec

Launch = Callable[..., Awaitable[SubprocessProcess]]

GROUP = os.getegid() if os.geteuid() else 54321  # only root gives files to a group that it is not in


def kind_of(path: str | Path) -> tuple[int, int]:
    """Return whose group something is, and its mode."""
    status = os.lstat(path)
    return status.st_gid, stat.S_IMODE(status.st_mode)


def test_groups_go_by_name_and_by_number() -> None:
    """What is neither is an error with go-plugin's words."""
    assert (find_group("root"), find_group("4711")) == (0, 4711)
    with pytest.raises(LaunchError, match="failed to find gid from 'no such group'") as caught:
        find_group("no such group")
    assert caught.value.errno == errno.EINVAL
    for number in (2**32 - 1, 2**64):  # "leave it as it is", and none at all
        with pytest.raises(LaunchError, match="failed to find gid"):
            find_group(str(number))


async def test_the_group_gets_to_the_sockets_and_no_further(launch: Launch, runtime_root: Path) -> None:
    """Folders that it may pass and not write, outside of the user's private runtime directory; the host's sockets too."""
    process = await launch("env", socket_group=str(GROUP))
    home = Path(process.directory)

    assert kind_of(home) == (GROUP, 0o750)
    assert kind_of(home.parent) == (GROUP, 0o710)
    assert can_pass(str(home), GROUP)
    assert not can_pass(str(home), GROUP + 1)
    assert runtime_root not in home.parents

    address = process.new_address()
    assert isinstance(address, UnixAddress)
    Path(address.path).touch(mode=0o600)
    assert process.host_to_plugin(address) == address
    assert kind_of(address.path) == (GROUP, 0o660)

    environment = (await process.stdout.receive()).decode().splitlines()
    assert f"PLUGIN_UNIX_SOCKET_GROUP={GROUP}" in environment
    process.close()
    assert not home.exists()


async def test_ports_are_passed_on(launch: Launch) -> None:
    """As go-plugin's MinPort and MaxPort; without, the plugin hears of none."""
    told = (await (await launch("env", ports=(10000, 10007))).stdout.receive()).decode().splitlines()
    assert {"PLUGIN_MIN_PORT=10000", "PLUGIN_MAX_PORT=10007"} < set(told)

    assert b"_PORT=" not in await (await launch("env")).stdout.receive()


def test_other_instances_stay_private_and_nothing_stays() -> None:
    """The folder of a group is one of its own; it ends with the runner, or with the next host."""
    shared = RuntimeDirectory(group=GROUP)
    left = Path(shared.create_instance()).parent
    assert shared._lock is not None
    shared._lock.close()  # as the kernel does when a host dies
    after = RuntimeDirectory(group=GROUP)
    after.create_instance()

    assert not left.exists()
    after.close()


async def test_the_guard_knows_the_folder_of_the_group() -> None:
    """A host that is killed leaves neither of its two folders."""
    runner = SubprocessRunner()
    for group in (None, str(GROUP)):
        spec = PluginSpec(name="a", command=("true",), socket_group=group)
        (await runner.launch(spec, generation=1, variables={})).close()
    assert runner._guard is not None
    guarded = runner._guard.directories
    assert len(guarded) == 2
    runner.close()
    assert not any(map(os.path.exists, guarded))


async def test_a_group_that_cannot_get_there_is_refused(short_dir: Path, launch: Launch) -> None:
    """Sockets that nobody of the group could reach would be a riddle."""
    runner = SubprocessRunner(runtime_root=str(short_dir), guard=False)
    short_dir.chmod(0o700)
    with pytest.raises(LaunchError, match="cannot get into") as caught:
        await launch("true", on=runner, socket_group=str(GROUP))
    assert caught.value.errno == errno.EACCES
    runner.close()
