"""Memory: how much is free, and between batches: the C library keeps it while a model trains.

Every operation's result is a tensor of a megabyte or so. As it comes, glibc gives the top of its
heap back to the system after each and takes it again, zeroed page by page, for the next: some 5 to
10 % of a training step.
"""

import contextlib
import ctypes
import os
import pathlib
import platform
from collections.abc import Iterator

M_TRIM_THRESHOLD = -1
"""`mallopt(3)`: free bytes at the top of the heap from which they are given back."""
M_MMAP_THRESHOLD = -3
"""`mallopt(3)`: bytes from which a block is mapped on its own, and unmapped when it is freed."""
MOST_KEPT = 256 << 20
"""Of each thread, in bytes."""
LARGEST_BLOCK = 32 << 20
"""In bytes; larger blocks come from the system each time. glibc takes no more."""
AFTERWARDS = 2 * LARGEST_BLOCK
"""What glibc comes to by itself where such blocks have been freed."""


@contextlib.contextmanager
def kept_heap() -> Iterator[None]:
    """Keep freed memory until the end, and give it back then. Does nothing where the C library is
    another."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    library.mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
    try:
        yield
    finally:
        library.mallopt(M_TRIM_THRESHOLD, AFTERWARDS)
        library.malloc_trim(ctypes.c_size_t(0))


UNKNOWN_MEMORY = 2 << 30
"""Bytes that are taken to be free where the system does not say."""


def free_memory() -> int:
    """Return how many bytes of memory the system has free, within what its group may take."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return UNKNOWN_MEMORY
    with contextlib.suppress(OSError, ValueError):
        # Of the pages that only cache files, most are free as well.
        told = pathlib.Path("/proc/meminfo").read_text().partition("MemAvailable:")[2]
        free = 1024 * int(told.partition("kB")[0])
    group = pathlib.Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    return max(free, 0)
