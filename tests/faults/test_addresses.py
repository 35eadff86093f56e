"""Rows 9, 10 and 12 to 14 of the fault table: where a plugin says it listens, and what is there."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from watching import Log, exit_of, until_state

from supervisor import (
    HandshakeError,
    PluginSpec,
    Restart,
    RestartIntensity,
    RestartPolicy,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.errors import ConnectError, LaunchError
from supervisor.events import HandshakeDone, InstanceExited, InstanceLaunched
from supervisor.outcome import ExitReason
from supervisor.runners.subprocess import SubprocessRunner

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

ONCE = RestartPolicy(restart=Restart.TEMPORARY)
QUICK = StopPolicy(drain=0, shutdown=0.05)
SETTINGS = "\\x00\\x00\\x00\\x04\\x00\\x00\\x00\\x00\\x00"


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Return a directory whose paths are short enough for sockets, and which is not the host's."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        yield Path(directory)


@pytest.fixture
def open_to_all(elsewhere: Path) -> Path:
    """Return a directory in which everybody may replace everything."""
    elsewhere.chmod(0o777)
    return elsewhere


# --- row 9 -------------------------------------------------------------------------------------------------------------

NOBODY_THERE = {
    "missing": (),
    "not listening": ("bind", "{dir}/s"),
    "stale": ("listen", "{dir}/s", "unlisten"),
    "an ordinary file": ("touch", "{dir}/s"),
}


@pytest.mark.parametrize("what", NOBODY_THERE)
async def test_row_9_nobody_listens(supervise: Supervise, evil: MakeSpec, log: Log, what: str) -> None:
    """A good handshake for a socket that nobody listens on fails within 50 ms of the handshake: best of three."""
    policy = RestartPolicy(restart=Restart.TEMPORARY)
    spec = evil(*NOBODY_THERE[what], "stamp", "handshake", "{dir}/s", "hang", restart=policy)
    async with supervise(spec) as supervisor:
        await until_state(State.STOPPED, supervisor)
        for _ in range(2):
            with pytest.raises(Exception, match="stopped"):
                await supervisor.plugin("evil").start()
    ends = log.of(InstanceExited)
    assert len(ends) == 3
    for end in ends:
        assert isinstance(end.report.error, HandshakeError | ConnectError)
        assert end.report.reason in {ExitReason.HANDSHAKE, ExitReason.CONNECT}
        assert end.report.error.hint
    assert min(end.at - float(end.report.stderr[0]) for end in ends) <= 0.05


async def test_row_9_nobody_listens_on_tcp(supervise: Supervise, evil: MakeSpec) -> None:
    """The same for a port that is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with supervise(
        evil("print", f"1|1|tcp|127.0.0.1:{port}|grpc", "hang", restart=ONCE, insecure=True)
    ) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, ConnectError)
    assert report.reason is ExitReason.CONNECT
    assert report.uptime < 1


# --- row 10 ------------------------------------------------------------------------------------------------------------

SILENT = {
    "never accepts": (),
    "accepts and is silent": ("accept",),
    "settings and silence": ("accept", "settings"),
    "half a frame": ("accept", "send", SETTINGS[:20]),
}
WRONG = {
    "http/1": ("accept", "send", "HTTP/1.1 400 Bad Request\\r\\nConnection: close\\r\\n\\r\\n"),
    "tls": ("accept", "send", "\\x15\\x03\\x01\\x00\\x02\\x02\\x46", "hang-up"),
    "junk": ("accept", "send", "\\xde\\xad\\xbe\\xef" * 64),
    "hangs up": ("accept", "hang-up"),
    "settings and hang up": ("accept", "settings", "hang-up"),
}


@pytest.mark.parametrize("what", [*SILENT, *WRONG])
async def test_row_10_listener_that_is_no_plugin(supervise: Supervise, evil: MakeSpec, log: Log, what: str) -> None:
    """A socket that does not speak HTTP/2 is a ConnectError: at once when it is wrong, at connect_timeout when silent."""
    deeds = {**SILENT, **WRONG}[what]
    spec = evil("listen", "{dir}/s", "handshake", "{dir}/s", *deeds, "hang", connect_timeout=0.4, restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, ConnectError)
    assert report.reason is ExitReason.CONNECT
    (done,), (ended,) = log.of(HandshakeDone), log.of(InstanceExited)
    assert ended.at - done.at <= 0.4 + 0.5
    assert (ended.at - done.at >= 0.39) is (what in SILENT)


async def test_row_10_on_tcp(supervise: Supervise, evil: MakeSpec) -> None:
    """A silent port is given up on at connect_timeout too."""
    deeds = ("listen-tcp", "print", "1|1|tcp|{tcp}|grpc", "accept", "hang")
    async with supervise(evil(*deeds, connect_timeout=0.2, restart=ONCE, insecure=True)) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, ConnectError)
    assert report.uptime <= 0.2 + 0.5 + 0.3  # the start of an interpreter is on top


# --- row 12 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [107, 108, 120, 5000])
async def test_row_12_long_socket_path(supervise: Supervise, log: Log, size: int) -> None:
    """A path of 107 bytes is looked at, a longer one is refused with a hint before any connection is tried."""
    padded = (
        f'p="$PLUGIN_UNIX_SOCKET_DIR/"; while [ ${{#p}} -lt {size} ]; do p="${{p}}x"; done; echo "1|1|unix|$p|grpc"'
    )
    spec = PluginSpec(name="long", command=("/bin/sh", "-c", f"{padded}; exec sleep 60"), restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError)
    assert report.error.field == "address"
    assert f"of {size} bytes" in str(report.error) or size == 107
    assert len(log.of(HandshakeDone)) == 0
    assert report.error.hint


async def test_row_12_host_finds_a_short_directory(
    supervise: Supervise, kv: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime directory too deep for sockets is passed over for a shorter one, and a plugin works there."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("TMPDIR", str(deep))
    async with supervise(kv()) as supervisor:
        await supervisor.ready()


async def test_row_12_no_short_directory_is_an_error_before_the_start(
    supervise: Supervise, kv: MakeSpec, log: Log, tmp_path: Path
) -> None:
    """A runtime root that was asked for and is too long is a LaunchError; no process was started."""
    root = tmp_path / ("d" * 80)
    root.mkdir(mode=0o700)
    async with supervise(kv(), runner=partial(SubprocessRunner, runtime_root=str(root))) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, LaunchError)
    assert report.error.hint
    assert not log.of(InstanceLaunched)


# --- row 13 ------------------------------------------------------------------------------------------------------------


REFUSED = {
    "symbolic link": ("listen", "{dir}/s", "symlink", "{dir}/s", "{dir}/link", "handshake", "{dir}/link"),
    "climbing": ("handshake", "{dir}/../s"),
    "relative": ("handshake", "s"),
    "abstract": ("handshake", "@evil"),
    "abstract, as bytes": ("handshake", "\\x00evil"),
    "tcp off the loopback": ("print", "1|1|tcp|192.0.2.1:80|grpc"),
    "tcp anywhere": ("print", "1|1|tcp|0.0.0.0:80|grpc"),
    "tcp by name": ("print", "1|1|tcp|localhost:80|grpc"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_row_13_address_that_is_refused(supervise: Supervise, evil: MakeSpec, what: str) -> None:
    """An address that a plugin may not announce is a HandshakeError about the address, without a connection."""
    async with supervise(evil(*REFUSED[what], "hang", restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError)
    assert (report.reason, report.error.field) == (ExitReason.HANDSHAKE, "address")


async def test_row_13_socket_of_somebody_else(supervise: Supervise, evil: MakeSpec, elsewhere: Path) -> None:
    """A socket outside of the instance's directory whose listener is not of the plugin's tree is refused."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(elsewhere / "s"))
        listener.listen()
        async with supervise(evil("handshake", str(elsewhere / "s"), "hang", restart=ONCE)) as supervisor:
            report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError)
    assert report.error.field == "address"


async def test_row_13_own_socket_elsewhere(supervise: Supervise, evil: MakeSpec, log: Log, elsewhere: Path) -> None:
    """A socket of the plugin's own in another directory is fine, as go-plugin before 1.5.0 has it."""
    path = str(elsewhere / "s")
    spec = evil("listen", path, "handshake", path, "accept", "accept", "greet", "hang", health=None, stop=QUICK)
    async with supervise(spec) as supervisor:
        await supervisor.ready()
    assert len(log.of(HandshakeDone)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
async def test_row_13_socket_of_another_user(supervise: Supervise, evil: MakeSpec) -> None:
    """A socket file that belongs to another user is refused."""
    spec = evil("listen", "{dir}/s", "give-away", "{dir}/s", "handshake", "{dir}/s", "hang", restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError)
    assert report.error.field == "address"


# --- row 14 ------------------------------------------------------------------------------------------------------------


async def test_row_14_directory_is_private_and_new(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """Each life gets an empty directory of its own with mode 0700, in one of the host's that is private too."""
    policy = RestartPolicy(restart=Restart.PERMANENT, intensity=RestartIntensity(limit=2))
    async with supervise(evil("mode", "{dir}", "mode", "{dir}/..", "list", "{dir}", restart=policy)) as supervisor:
        await until_state(State.FAILED, supervisor)
    said = [end.report.stderr for end in log.of(InstanceExited)]
    assert len(said) == 3
    assert all(lines[:2] == ("700", "700") for lines in said)
    assert all(lines[2].endswith(": 0 files") for lines in said)
    assert len({lines[2] for lines in said}) == 3


async def test_row_14_binding_follows_no_link(supervise: Supervise, evil: MakeSpec) -> None:
    """Where a squatter has put a link or a file, binding says EADDRINUSE and creates nothing at the link's target."""
    deeds = ("symlink", "{dir}/target", "{dir}/s", "try-bind", "{dir}/s", "touch", "{dir}/f", "try-bind", "{dir}/f")
    async with supervise(evil(*deeds, "mode", "{dir}/target", restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert report.stderr[:2] == ("EADDRINUSE", "EADDRINUSE")
    assert "No such file" in report.stderr[-1]


async def test_row_14_squatter_in_the_directory(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A socket in the instance's own directory that a stranger listens on is refused by the listener's process id."""
    spec = evil("stranger", "{dir}/s", "handshake", "{dir}/s", "hang", restart=ONCE)
    async with supervise(spec) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError | ConnectError)
    assert "not part of the plugin" in str(report.error)
    assert len(log.of(HandshakeDone)) == 1


async def test_row_14_directory_that_others_may_write(supervise: Supervise, kv: MakeSpec, open_to_all: Path) -> None:
    """A runtime root with mode 0777 and no sticky bit is refused before anything is started."""
    async with supervise(kv(), runner=partial(SubprocessRunner, runtime_root=str(open_to_all))) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, LaunchError)
    assert report.pid is None
    assert "others could replace" in str(report.error)
