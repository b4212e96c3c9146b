"""Moves the memory of a process into large pages, so that a fork takes less time. `nursery` calls it before it forks.

A fork makes a table of all pages, and each end of a process takes one apart. With torch imported, these are some 70,000
pages of 4 KiB. In pages of 2 MiB there are 600 times fewer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

from bench.measure.apart.confine import libc

_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
MADV_COLLAPSE = 25


def use_large_pages() -> None:
    """Move the memory of this process, except stacks and files, into large pages.

    Pages that the kernel has no room for stay small. Linux before 6.1 and other systems change nothing. How much was
    moved is not known: of a piece of memory that the kernel moves in part, it says only that this failed.
    """
    try:
        size = int(_SIZE.read_bytes())
    except (OSError, ValueError):
        return
    here = libc()
    for first, last in _own_memory():
        start, end = -(-first // size) * size, last // size * size  # whole large pages only
        if start < end:
            here.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_COLLAPSE)


def _own_memory() -> Iterator[tuple[int, int]]:
    """First address, and the one after the last, of each piece of memory that belongs to this process alone (Linux)."""
    for line in Path("/proc/self/maps").read_bytes().splitlines():
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights == b"rw-p" and inode == b"0" and name in ([], [b"[heap]"]):
            first, last = (int(one, 16) for one in addresses.split(b"-"))
            yield first, last
