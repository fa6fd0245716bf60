"""What all tests share: reproducible sums, and no test that fails because the machine is busy."""

import contextlib
import os

import torch

# Before Feast, which else would have it share its values among all that run in this process.
with contextlib.suppress(ImportError):  # where there is the core alone, there is no endpoint
    import prometheus_client  # noqa: F401

# One thread, so that test processes side by side do not fight for cores. Tests must pass with any
# number: `make test-numerics` runs those that compare floats with others.
torch.set_num_threads(int(os.environ.get("RECMETA_TEST_THREADS", "1")))

# A slow example is no fault; a run that is to be relied upon draws the same examples every time.
with contextlib.suppress(ImportError):  # the tests that need a GPU need no examples
    from hypothesis import settings

    settings.register_profile("recmeta", deadline=None, derandomize=bool(os.environ.get("CI")))
    settings.load_profile("recmeta")
