"""The socket that a plugin listens on."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.address import TcpAddress, UnixAddress
from supervisor.errors import ConfigurationError
from supervisor.sdk.host_request import HostRequest
from supervisor.sdk.listener import bind_listener


def test_a_unix_listener_accepts_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    """A host may connect before the plugin's loop has turned once."""
    listener = bind_listener(HostRequest(socket_directory=str(tmp_path)), "unix")
    assert isinstance(listener.address, UnixAddress)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.address.path)
    listener.socket.close()
    listener.remove()
    listener.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_group_may_connect_when_the_host_says_so(tmp_path: Path) -> None:
    """The group comes by name or number, and the mode lets it in."""
    group = os.getegid()
    listener = bind_listener(HostRequest(socket_directory=str(tmp_path), socket_group=str(group)), "unix")
    listener.socket.close()
    status = Path(str(listener.address)).stat()
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (group, 0o660)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_a_group_reaches_a_socket_of_which_nobody_said_where() -> None:
    """As under a Go host without a runner of its own: a user of the group alone connects, and another does not."""
    group = 54321
    listener = bind_listener(HostRequest(socket_group=str(group)), "unix")
    connect = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(12345)\n"
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
    )
    ends = [
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", connect, str(listener.address), str(gid)],
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        for gid in (group, group + 1)
    ]
    listener.socket.close()
    listener.remove()
    assert ends == [0, 1]
    assert not Path(str(listener.address)).parent.exists()


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (HostRequest(socket_directory="/tmp/" + "x" * 120), "PLUGIN_UNIX_SOCKET_DIR"),
        (HostRequest(socket_group="no such group"), "PLUGIN_UNIX_SOCKET_GROUP"),
    ],
    ids=["path", "group"],
)
def test_what_cannot_work_is_named_and_leaves_nothing(
    request_: HostRequest, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which variable is at fault, and no socket or directory stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigurationError) as error:
        bind_listener(request_, "unix")
    assert error.value.key == key
    assert list(tmp_path.iterdir()) == []


def test_tcp_takes_the_first_free_port_of_the_range() -> None:
    """A port that is taken is passed over; when all are, that is an error."""
    taken = bind_listener(HostRequest(), "tcp")
    assert isinstance(taken.address, TcpAddress)
    port = taken.address.port
    with pytest.raises(ConfigurationError, match="couldn't bind"):
        bind_listener(HostRequest(ports=(port, port)), "tcp")
    taken.socket.close()


def test_an_unknown_network_is_refused() -> None:
    """Only unix and tcp are on the wire."""
    with pytest.raises(ConfigurationError, match="neither"):
        bind_listener(HostRequest(), "udp")
