"""May a plugin announce this address? A line on stdout must not lead the host to somebody else's socket."""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator

from supervisor.address import Address, MemoryAddress, TcpAddress, UnixAddress
from supervisor.errors import HandshakeError

__all__ = ["check_announced", "check_peer", "listener_pid", "owns_port"]

_UCRED = struct.Struct("3i")

_LISTENING = "0A"


def check_announced(address: Address, *, directory: str, in_tree: Callable[[int], bool]) -> Address:
    """Return the address if the instance may announce it.

    A unix socket is a real socket of ours, not a symbolic link. One inside the instance's own `directory` is trusted:
    nobody else can create it there. Programs built with go-plugin before 1.5.0 do not know PLUGIN_UNIX_SOCKET_DIR and use
    the temporary directory; there, the listening process must prove to be of the instance's tree.

    TCP addresses have been parsed as loopback already.

    Raises:
        HandshakeError: it may not.
    """
    if isinstance(address, MemoryAddress):
        raise _refused(address, "a process has no address in the host's memory")
    if isinstance(address, UnixAddress):
        _check_file(address)
        if not _is_inside(address.path, directory) and not in_tree(_probe(address)):
            raise _refused(address, "the listener is not part of the plugin")
    return address


def listener_pid(connected: socket.socket) -> int:
    """Return the pid of the process that listens at the other end of a connected unix socket, as the kernel knows it.

    0 where the kernel does not say (other systems, other families) and for processes of other users.
    """
    if sys.platform != "linux" or connected.family != socket.AF_UNIX:
        return 0
    pid, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(pid) if uid == os.geteuid() else 0


def check_peer(connected: socket.socket, *, in_tree: Callable[[int], bool]) -> None:
    """Make sure that the other end of a connected unix socket is of the plugin's tree. Other families pass.

    Raises:
        HandshakeError: it is not.
    """
    if connected.family == socket.AF_UNIX and sys.platform == "linux" and not in_tree(listener_pid(connected)):
        raise HandshakeError("the other end is not part of the plugin", field="address")


def owns_port(pid: int, address: TcpAddress) -> bool:
    """Whether a process has a socket that listens at a TCP address; False when that cannot be told."""
    sockets = _open_sockets(pid)
    hosts = {_as_in_table(address.host), *map(_as_in_table, ("0.0.0.0", "::"))}  # noqa: S104 - looked for, not bound
    for table in ("tcp", "tcp6"):
        for local, state, inode in _read_sockets(f"/proc/{pid}/net/{table}"):
            host, _, port = local.partition(":")
            if state == _LISTENING and inode in sockets and host in hosts and int(port, 16) == address.port:
                return True
    return False


def _as_in_table(host: str) -> str:
    """Return an address as `/proc/net/tcp` has it: words of four bytes, each as this machine's integer."""
    packed = ipaddress.ip_address(host).packed
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _open_sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}").removeprefix("socket:[").removesuffix("]"))
    return found


def _read_sockets(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield local address, state and inode of each socket."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                yield fields[1], fields[3], fields[9]
    except OSError:
        return


def _check_file(address: UnixAddress) -> None:
    try:
        status = os.lstat(address.path)
    except OSError as error:
        raise _refused(address, error.strerror or "cannot be looked at") from error
    if stat.S_ISLNK(status.st_mode):
        raise _refused(address, "it is a symbolic link")
    if not stat.S_ISSOCK(status.st_mode):
        raise _refused(address, "it is not a socket")
    if status.st_uid != os.geteuid():
        raise _refused(address, "it belongs to another user")


def _is_inside(path: str, directory: str) -> bool:
    """Whether the folder of `path`, links resolved, is the directory or lies in it."""
    folder, home = os.path.realpath(os.path.dirname(path)), os.path.realpath(directory)
    return os.path.commonpath((folder, home)) == home


def _probe(address: UnixAddress) -> int:
    """Connect, ask the kernel who listens, and hang up."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # a full backlog says EAGAIN at once instead of blocking the loop
        problem = probe.connect_ex(address.path)
        if problem:
            raise _refused(address, errno.errorcode.get(problem, str(problem)))
        return listener_pid(probe)


def _refused(address: Address, reason: str) -> HandshakeError:
    return HandshakeError(
        f"announced address {str(address)!r} is refused: {reason}",
        field="address",
        hint="let the plugin put its socket into PLUGIN_UNIX_SOCKET_DIR",
    )
