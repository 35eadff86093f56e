"""What glibc does with large blocks of memory, and how it is taught to keep some.

Blocks of 128 KiB and more it takes from the kernel one by one and gives back as soon as they are free, and then the kernel
clears and maps every page of the next one again: for messages of 1 MiB that costs more than all that is done with them. Once
it has seen a larger block come and go it raises both bounds, to that block's size and to twice that (mallopt(3),
M_MMAP_THRESHOLD). One that is never touched will do.
"""

from __future__ import annotations

from functools import cache
from typing import Final

__all__ = ["keep_large_blocks"]

_LARGEST: Final = 8 << 20
"""Bytes of a block that is kept from now on; up to twice as many stay with a process that has freed them."""


@cache
def keep_large_blocks() -> None:
    """Have large blocks of memory used again, for as long as the process lives. Other allocators do not notice."""
    bytes(_LARGEST)
