"""Memory: how much is free, and keeping it in the C library between batches while a model trains.

Every operation's result is a tensor of about a megabyte. By default, glibc returns the top of its
heap to the system after each of them and takes it again, zeroed page by page, for the next, which
costs 5 to 10 % of a training step.
"""

import contextlib
import ctypes
import os
import pathlib
import platform
from collections.abc import Iterator

M_TRIM_THRESHOLD = -1
"""`mallopt(3)`: the number of free bytes at the top of the heap from which they are returned."""
M_MMAP_THRESHOLD = -3
"""`mallopt(3)`: the number of bytes from which a block is mapped on its own, and unmapped when
freed."""
MOST_KEPT = 256 << 20
"""The most freed memory that is kept by each thread, in bytes."""
LARGEST_BLOCK = 32 << 20
"""In bytes; larger blocks come from the system each time. glibc allows no larger value."""
AFTERWARDS = 2 * LARGEST_BLOCK
"""The threshold that glibc sets by itself once blocks of this size have been freed."""


@contextlib.contextmanager
def kept_heap() -> Iterator[None]:
    """Keep freed memory until the end of the block, and return it then. It does nothing with C
    libraries other than glibc."""
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
"""Bytes that are assumed to be free if the system does not report it."""


def free_memory() -> int:
    """Return the number of free bytes of memory, within the limit of the process's control
    group."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return UNKNOWN_MEMORY
    with contextlib.suppress(OSError, ValueError):
        # Most of the pages that only cache files count as free.
        available = pathlib.Path("/proc/meminfo").read_text().partition("MemAvailable:")[2]
        free = 1024 * int(available.partition("kB")[0])
    group = pathlib.Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # "max" stands for no limit
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    return max(free, 0)
