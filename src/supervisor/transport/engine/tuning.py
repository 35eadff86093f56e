"""What the kernel and the allocator are told once, so that they do not stand in the way."""

from __future__ import annotations

import asyncio
import socket
from functools import cache
from typing import Final

__all__ = ["keep_large_blocks", "tune_socket"]

_SEND_BUFFER: Final = 1 << 20
"""Bytes asked of the kernel for what a unix socket holds; it gives what it may and doubles that. A sender that filled it is
woken when three quarters are free: what is left then has to keep the receiver busy until the sender runs."""

_LARGEST_BLOCK: Final = 8 << 20
"""Bytes of a block of memory that is kept; up to twice as many stay with a process that has freed them."""


def tune_socket(transport: asyncio.BaseTransport) -> None:
    """Have the socket under a transport, if there is one, send small writes at once and take large ones."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    elif sock.family in {socket.AF_INET, socket.AF_INET6}:
        # asyncio sets it only where the socket was made with an explicit protocol number.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@cache
def keep_large_blocks() -> None:
    """Have large blocks of memory used again, for as long as the process lives.

    glibc takes blocks of 128 KiB and more from the kernel one by one and gives them back as soon as they are free; then the
    kernel clears and maps every page of the next one again. asyncio reads into such a block each time, and of a message of
    1 MiB most of the cost was that. Once glibc has seen a larger block come and go it raises both of its bounds, to that
    block's size and to twice that (mallopt(3), M_MMAP_THRESHOLD); one that is never touched will do. Other allocators do not
    notice.
    """
    bytes(_LARGEST_BLOCK)
