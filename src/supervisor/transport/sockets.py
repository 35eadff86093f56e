"""Sockets for addresses: connected, bound, and named back."""

# ruff: noqa: PTH101, PTH108 - pathlib costs every plugin 3 ms of its start

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from supervisor.address import TcpAddress, UnixAddress

__all__ = ["SocketFile", "address_of", "bind_socket", "connect_socket", "read_leftover"]

_CHUNK = 256 * 1024


async def connect_socket(address: UnixAddress | TcpAddress) -> socket.socket:
    """Return a non-blocking socket that is connected to `address`.

    Raises:
        OSError: nobody listens there, or the listener's backlog is full.
    """
    sock = _make_socket(address)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the stdlib takes no keyword
        if isinstance(address, UnixAddress):
            # Connecting to a unix socket never waits. asyncio takes EAGAIN (the backlog is full) for "in progress" and
            # hands out a socket that is not connected.
            sock.connect(address.path)
        else:
            await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def bind_socket(address: UnixAddress | TcpAddress) -> socket.socket:
    """Return a socket that is bound to `address`; a unix socket's file is for its owner only.

    Raises:
        OSError: the address is in use; an existing file is never replaced, since whose it is cannot be known.
    """
    sock = _make_socket(address)
    try:
        if isinstance(address, UnixAddress):
            sock.bind(address.path)
            os.chmod(address.path, 0o600)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def address_of(sock: socket.socket) -> UnixAddress | TcpAddress:
    """Return the address that a socket is bound to."""
    name = sock.getsockname()
    return UnixAddress(os.fsdecode(name)) if sock.family == socket.AF_UNIX else TcpAddress(name[0], name[1])


def read_leftover(transport: asyncio.BaseTransport, error: BaseException | None) -> bytes:
    """Return what the peer had sent before it closed its end, for a protocol to take in its `connection_lost`.

    When a write fails asyncio reads no more. But a program that says its last words and ends leaves them in the kernel's
    buffer, and one acknowledgement written meanwhile would lose them.

    Args:
        transport: a socket's; of one that is layered upon another nothing is read.
        error: what `connection_lost` was given.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or not isinstance(error, OSError) or transport.get_extra_info("ssl_object") is not None:
        return b""
    chunks: list[bytes] = []
    with contextlib.suppress(OSError):
        while chunk := os.read(sock.fileno(), _CHUNK):
            chunks.append(chunk)
    return b"".join(chunks)


def _make_socket(address: UnixAddress | TcpAddress) -> socket.socket:
    if isinstance(address, UnixAddress):
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)


class SocketFile:
    """The file of a bound unix socket, to be removed with it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = os.lstat(path).st_ino

    def remove(self) -> None:
        """Remove the file unless it is gone or somebody else's has taken its place."""
        try:
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
