from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from supervisor.address import MemoryAddress, TcpAddress, UnixAddress
from supervisor.errors import HandshakeError
from supervisor.runners.socket_check import listener_pid
from supervisor.runners.subprocess import SubprocessProcess

Launch = Callable[..., Awaitable[SubprocessProcess]]


@pytest.fixture
async def process(launch: Launch) -> SubprocessProcess:
    """A plugin that does nothing."""
    return await launch("ends.py", "wait")


def bound(path: Path) -> socket.socket:
    """A socket of this very process at `path`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


async def test_a_socket_in_the_instances_directory_is_accepted(process: SubprocessProcess) -> None:
    """Directly in it or in a folder within, the address comes back as announced."""
    home = Path(process.directory)
    (home / "deeper").mkdir()
    for path in (home / "socket", home / "deeper" / "socket"):
        with bound(path):
            assert process.check_address(UnixAddress(str(path))) == UnixAddress(str(path))


async def test_row_13_what_is_not_a_socket_of_ours_is_refused(process: SubprocessProcess, short_dir: Path) -> None:
    """Nothing there, a plain file, a link to a real socket, and a folder that is a link out of the directory."""
    home = Path(process.directory)
    (home / "file").touch()
    (home / "link").symlink_to(short_dir / "socket")
    (home / "out").symlink_to(short_dir)
    with bound(short_dir / "socket"):
        for name, word in (
            ("none", "No such file"),
            ("file", "not a socket"),
            ("link", "link"),
            ("out/socket", "part"),
        ):
            with pytest.raises(HandshakeError, match=word) as caught:
                process.check_address(UnixAddress(str(home / name)))
            assert caught.value.field == "address"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a socket to another user")
async def test_row_13_another_users_socket_is_refused(process: SubprocessProcess) -> None:
    """Even inside the directory."""
    path = Path(process.directory) / "socket"
    with bound(path):
        os.chown(path, 65534, 65534)
        with pytest.raises(HandshakeError, match="another user"):
            process.check_address(UnixAddress(str(path)))


async def test_row_13_a_socket_elsewhere_must_be_the_plugins_own(
    launch: Launch, short_dir: Path, read_line: Callable[..., Awaitable[str]]
) -> None:
    """Old go-plugin programs listen in the temporary directory: accepted from the plugin, from nobody else."""
    mine, theirs = short_dir / "mine", short_dir / "theirs"
    plugin = await launch("listens.py", str(mine))
    other = await launch("listens.py", str(theirs))
    await read_line(plugin.stdout)
    await read_line(other.stdout)

    assert plugin.check_address(UnixAddress(str(mine))) == UnixAddress(str(mine))
    with pytest.raises(HandshakeError, match="not part of the plugin"):
        plugin.check_address(UnixAddress(str(theirs)))


async def test_row_13_a_dead_socket_elsewhere_is_refused(process: SubprocessProcess, short_dir: Path) -> None:
    """Nobody listens behind it any more, so nobody can prove anything."""
    bound(short_dir / "stale").close()

    with pytest.raises(HandshakeError, match="ECONNREFUSED"):
        process.check_address(UnixAddress(str(short_dir / "stale")))


async def test_a_full_backlog_does_not_block_the_loop(process: SubprocessProcess, short_dir: Path) -> None:
    """A listener that accepts nobody is refused at once."""
    with bound(short_dir / "full") as listener:
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(short_dir / "full"))
            with pytest.raises(HandshakeError, match="EAGAIN"):
                process.check_address(UnixAddress(str(short_dir / "full")))


async def test_other_networks(process: SubprocessProcess) -> None:
    """A loopback address passes; an address in the host's memory is no process's to announce."""
    address = TcpAddress("127.0.0.1", 4000)

    assert process.check_address(address) is address
    with pytest.raises(HandshakeError):
        process.check_address(MemoryAddress("a"))


async def test_row_14_squatting_is_noticed(launch: Launch, read_line: Callable[..., Awaitable[str]]) -> None:
    """The plugin's own listener passes `check_peer()`; one of this process under the plugin's path does not."""
    waiting = await launch("ends.py", "wait")
    home = Path(waiting.directory)
    plugin = await launch("listens.py", str(home / "socket"))
    await read_line(plugin.stdout)

    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(home / "socket"))
        assert listener_pid(connected) == plugin.pid
        plugin.check_peer(connected)
        with pytest.raises(HandshakeError, match="not part"):
            waiting.check_peer(connected)


async def test_a_listener_that_left_the_session_is_known_by_its_lineage(
    launch: Launch, read_line: Callable[..., Awaitable[str]], short_dir: Path
) -> None:
    """A wrapper that starts the real server in another session is still the plugin."""
    path = str(short_dir / "socket")
    program = Path(__file__).parents[1] / "evil" / "listens.py"
    code = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], start_new_session=True)"
    plugin = await launch(sys.executable, "-c", code, str(program), path)
    await read_line(plugin.stdout)

    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(path)
        assert listener_pid(connected) != plugin.pid
        plugin.check_peer(connected)
