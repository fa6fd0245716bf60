"""One thread: reproducible sums, and two test processes side by side do not fight for cores."""

import torch

torch.set_num_threads(1)
