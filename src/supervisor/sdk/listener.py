"""The socket that a plugin listens on."""

# ruff: noqa: PTH101, PTH102, PTH108, PTH118 - pathlib costs every plugin 3 ms of its start

from __future__ import annotations

import os
import socket
from contextlib import suppress

from supervisor.address import MAX_SOCKET_PATH, TcpAddress, UnixAddress
from supervisor.errors import ConfigurationError
from supervisor.sdk.host_request import HostRequest

__all__ = ["Listener", "bind_listener"]

_BACKLOG = 128


class Listener:
    """A socket that accepts connections already, and how to leave nothing of it behind.

    Attributes:
        socket: the listening socket.
        address: what the handshake says of it.
        own_directory: the directory that was made for it, if one was.
    """

    __slots__ = ("address", "own_directory", "socket")

    def __init__(
        self, *, socket: socket.socket, address: UnixAddress | TcpAddress, own_directory: str | None = None
    ) -> None:
        self.socket = socket
        self.address = address
        self.own_directory = own_directory

    def remove(self) -> None:
        """Remove the socket's file and directory; idempotent, never raises, from any thread."""
        if isinstance(self.address, UnixAddress):
            with suppress(OSError):
                os.unlink(self.address.path)
        if self.own_directory is not None:
            # With the sockets of brokered services, when the host is gone and there is no time to withdraw them.
            import shutil  # noqa: PLC0415  # under a host of this library there is no such directory

            shutil.rmtree(self.own_directory, ignore_errors=True)


def bind_listener(request: HostRequest, network: str) -> Listener:
    """Bind and listen, on `unix` or `tcp`.

    Raises:
        ConfigurationError: the network is unknown, the path too long, the group unknown or no port free.
        OSError: the system refused.
    """
    match network:
        case "unix":
            listener = _bind_unix(request.socket_directory, request.socket_group)
        case "tcp":
            listener = _bind_tcp(*request.ports)
        case _:
            raise ConfigurationError(f"network {network!r} is neither 'unix' nor 'tcp'")
    listener.socket.listen(_BACKLOG)
    return listener


def _bind_unix(directory: str | None, group: str | None) -> Listener:
    own_directory = _make_directory() if directory is None else None
    path = os.path.join(own_directory or directory or "", f"plugin{os.urandom(4).hex()}")
    listener = Listener(socket=socket.socket(socket.AF_UNIX), address=UnixAddress(path), own_directory=own_directory)
    try:
        if own_directory is not None and group is not None:
            # go-plugin puts the socket into the temporary directory itself, where its group gets to it.
            _give_to(group, own_directory)
            os.chmod(own_directory, 0o750)  # noqa: S103  # the group is who it is for
        _bind_file(listener.socket, path, group)
    except BaseException:
        listener.socket.close()
        listener.remove()
        raise
    return listener


def _make_directory() -> str:
    """Make a directory of this user's; its 0700 keeps others out on every system, which the socket's own mode does not."""
    path = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"plugin{os.urandom(8).hex()}")  # noqa: S108  # a new name
    try:
        os.mkdir(path, 0o700)
    except OSError:
        import tempfile  # noqa: PLC0415  # it knows more places, and takes 5 ms to load

        return tempfile.mkdtemp(prefix="plugin")
    return path


def _bind_file(unbound: socket.socket, path: str, group: str | None) -> None:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"socket path {path!r} is longer than the {MAX_SOCKET_PATH} bytes that the kernel takes",
            key="PLUGIN_UNIX_SOCKET_DIR",
            hint="choose a shorter directory",
        )
    unbound.bind(path)
    # Nobody can connect before `listen`, so nobody gets in under another mode than this.
    os.chmod(path, 0o600 if group is None else 0o660)
    if group is not None:
        _give_to(group, path)


def _give_to(group: str, path: str) -> None:
    import shutil  # noqa: PLC0415  # as above

    try:
        shutil.chown(path, group=int(group) if group.isascii() and group.isdigit() else group)
    except LookupError as error:
        raise ConfigurationError(f"there is no group {group!r}", key="PLUGIN_UNIX_SOCKET_GROUP") from error


def _bind_tcp(lowest: int, highest: int) -> Listener:
    for port in range(lowest, highest + 1):
        bound = socket.socket(socket.AF_INET)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError:
            bound.close()
            continue
        return Listener(socket=bound, address=TcpAddress("127.0.0.1", bound.getsockname()[1]))
    raise ConfigurationError("couldn't bind plugin TCP listener", key="PLUGIN_MIN_PORT")
