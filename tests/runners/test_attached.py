"""Processes that were not started here: proven before they are signalled, and let go of as they were."""

# Blocking for a moment hurts nobody here.
# ruff: noqa: ASYNC220, ASYNC222, ASYNC240

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.abc import AttachedProcess, AttachingRunner
from supervisor.address import TcpAddress, UnixAddress
from supervisor.errors import HandshakeError, ReattachError
from supervisor.outcome import ExitStatus
from supervisor.reattach import ProcessIdentity, ReattachToken
from supervisor.runners.attached import AttachedSubprocess
from supervisor.runners.process_table import boot_id, identify, is_below, read_entry
from supervisor.runners.socket_check import owns_port
from supervisor.runners.subprocess import SubprocessRunner
from supervisor.spec import PluginSpec

SPEC = PluginSpec(name="store", command=("true",))


@pytest.fixture
def stranger(no_leaks: None) -> Iterator[subprocess.Popen[bytes]]:
    """Return a process in a session of its own that ends with its standard input."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield process
    process.kill()
    process.communicate()


def token_of(pid: int, **changes: object) -> ReattachToken:
    """Return a token of a process, changed in what its identity says."""
    process = replace(identify(pid), **changes)  # type: ignore[arg-type]  # whatever the test wants
    return ReattachToken(name="store", process=process, address=UnixAddress("/nowhere/s"))


def test_the_ports_are_honoured(runner: SubprocessRunner) -> None:
    """The runner and its process are what the host wing asks for; the type checker holds us to it."""
    port: AttachingRunner = runner
    process: type[AttachedProcess] = AttachedSubprocess

    assert isinstance(port, AttachingRunner)
    assert process is AttachedSubprocess


async def test_until_it_is_confirmed_nothing_is_signalled(
    runner: SubprocessRunner, stranger: subprocess.Popen[bytes]
) -> None:
    """Signals, kills and closing do nothing to a process that has not answered yet."""
    process = await runner.attach(SPEC, token_of(stranger.pid))
    process.send_signal(signal.SIGKILL)
    process.kill_tree()
    process.close()

    assert stranger.poll() is None
    stranger.communicate(b"\n")
    assert stranger.returncode == 0


async def test_confirmed_it_is_ours_to_end(runner: SubprocessRunner, stranger: subprocess.Popen[bytes]) -> None:
    """Signals reach it, its end is seen, and nobody knows how it ended but its parent."""
    process = await runner.attach(SPEC, token_of(stranger.pid))
    process.confirm()
    process.send_signal(signal.SIGTERM)

    assert await process.wait() == ExitStatus()
    assert stranger.wait() == -signal.SIGTERM
    process.close()


async def test_confirmed_it_dies_with_its_runner(runner: SubprocessRunner, stranger: subprocess.Popen[bytes]) -> None:
    """Closing the runner closes what it was given to keep."""
    (await runner.attach(SPEC, token_of(stranger.pid))).confirm()
    runner.close()

    assert stranger.wait() == -signal.SIGKILL


async def test_let_go_of_it_lives_on(runner: SubprocessRunner, stranger: subprocess.Popen[bytes]) -> None:
    """Detached, it is nobody's here any more: not even a late kill reaches it."""
    process = await runner.attach(SPEC, token_of(stranger.pid))
    process.confirm()
    process.detach()
    process.kill_tree()
    process.send_signal(signal.SIGKILL)
    process.close()
    runner.close()

    assert stranger.poll() is None


@pytest.mark.parametrize(
    ("change", "gone"),
    [({"started": 7}, True), ({"boot_id": "another"}, True)],
    ids=["reused", "another boot"],
)
async def test_row_87_another_process_of_the_same_pid_is_not_taken(
    runner: SubprocessRunner, stranger: subprocess.Popen[bytes], change: dict[str, object], gone: bool
) -> None:
    """Start time and boot tell it from the one that was meant."""
    with pytest.raises(ReattachError) as caught:
        await runner.attach(SPEC, token_of(stranger.pid, **change))

    assert (caught.value.gone, caught.value.plugin) == (gone, "store")


@pytest.mark.parametrize("text", ["a", "0" * 32], ids=["one letter", "another token"])
async def test_a_lineage_that_it_was_not_given_is_refused(
    runner: SubprocessRunner, stranger: subprocess.Popen[bytes], text: str
) -> None:
    """Whatever carries it would be killed with the process."""
    with pytest.raises(ReattachError, match="was not given the token's lineage"):
        await runner.attach(SPEC, token_of(stranger.pid, lineage=text))


async def test_a_zombie_is_gone(runner: SubprocessRunner, stranger: subprocess.Popen[bytes]) -> None:
    """It has ended, whether or not its parent has noticed."""
    token = token_of(stranger.pid)
    os.kill(stranger.pid, signal.SIGKILL)
    os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ReattachError) as caught:
        await runner.attach(SPEC, token)

    assert caught.value.gone


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to be somebody else")
async def test_another_users_process_is_not_taken(runner: SubprocessRunner) -> None:
    """The right pid and start time, but not ours."""
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=65534)
    try:
        with pytest.raises(ReattachError, match="another user") as caught:
            await runner.attach(SPEC, token_of(process.pid))
        assert not caught.value.gone
    finally:
        process.communicate(b"\n")


async def test_a_socket_of_somebody_else_is_refused(
    runner: SubprocessRunner, stranger: subprocess.Popen[bytes], short_dir: Path
) -> None:
    """The kernel says who listens, and it is not the process of the token."""
    process = await runner.attach(SPEC, token_of(stranger.pid))
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connected:
        listener.bind(str(short_dir / "s"))
        listener.listen()
        connected.connect(str(short_dir / "s"))
        with pytest.raises(HandshakeError, match="not part of the plugin"):
            process.check_address(UnixAddress(str(short_dir / "s")))
        with pytest.raises(HandshakeError, match="not part of the plugin"):
            process.check_peer(connected)
    process.close()


async def test_a_directory_that_is_not_a_survivors_is_never_removed(
    runner: SubprocessRunner, stranger: subprocess.Popen[bytes], short_dir: Path
) -> None:
    """A token may say what it likes: only what looks like ours is taken for ours."""
    token = replace(token_of(stranger.pid, directory=str(short_dir)), survives_host=True)
    process = await runner.attach(SPEC, token)
    process.confirm()
    address = process.new_address()
    process.close()

    assert short_dir.exists()
    assert not str(address).startswith(str(short_dir))


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_knows_whose_port_it_is(family: socket.AddressFamily, host: str, no_leaks: None) -> None:
    """A listener's process owns its port, nobody else does, and not on another address."""
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        assert not owns_port(os.getpid(), TcpAddress(host, port))
        listener.listen()
        assert owns_port(os.getpid(), TcpAddress(host, port))
        assert not owns_port(os.getppid(), TcpAddress(host, port))
        assert not owns_port(os.getpid(), TcpAddress("127.0.0.2", port))


def test_an_identity_is_what_the_kernel_says(stranger: subprocess.Popen[bytes]) -> None:
    """Two processes never share one, and one that is gone has none."""
    ours, its = identify(os.getpid()), identify(stranger.pid, lineage="l", directory="/d")
    assert its == ProcessIdentity(pid=stranger.pid, started=its.started, boot_id=boot_id(), lineage="l", directory="/d")
    assert its.started > ours.started > 0
    assert is_below(stranger.pid, os.getpid())
    assert not is_below(os.getpid(), stranger.pid)
    entry = read_entry(stranger.pid)
    assert entry is not None
    assert (entry.parent, entry.session, entry.group) == (os.getpid(), stranger.pid, stranger.pid)
    assert read_entry(2**22 + 1) is None
