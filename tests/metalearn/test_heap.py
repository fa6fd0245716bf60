"""Memory that is freed during training stays with the process, and goes back to the system after
it."""

import platform
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import resource
import torch
from recmeta.metalearn.numerics.memory import kept_heap

torch.set_num_threads(1)
BLOCKS, NUMBERS = 40, 500_000  # 2 MB each

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def work():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        held = [torch.ones(NUMBERS) for _ in range(BLOCKS)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

at_first = resident()
with kept_heap():
    work()
    print(work(), resident() - at_first)
print(resident() - at_first)
"""


def _faults_and_memory() -> tuple[int, int, int]:
    """Return page faults of the second pass, resident bytes after it, and at the end."""
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        check=True,
        capture_output=True,
        text=True,
    )
    faults, within, after = map(int, found.stdout.split())
    return faults, within, after


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library keeps its own ways")
def test_freed_memory_is_kept_and_then_given_back() -> None:
    faults, within, after = _faults_and_memory()

    assert faults < 5_000, "of 195,000 pages that were written to"
    assert within > 60e6, "what was freed is still there"
    assert after < 30e6, "and is not any more"
