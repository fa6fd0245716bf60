"""What all tests share: reproducible sums, and no test that fails because the machine is busy."""

import os

import torch
from hypothesis import settings

# One thread, so that test processes side by side do not fight for cores. Tests must pass with any
# number: `make test-numerics` runs those that compare floats with others.
torch.set_num_threads(int(os.environ.get("RECMETA_TEST_THREADS", "1")))

# A slow example is no fault; a run that is to be relied upon draws the same examples every time.
settings.register_profile("recmeta", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("recmeta")
