"""Random numbers by name: the draws for a user or an item do not depend on the rest of the batch.

A batch's gradient may be computed in parts, by several processes, in any order. A generator yields
its numbers one after the other, so that a user's numbers would depend on the user's position. Here
the generator yields one key, and each number is a hash of the key, of a name (of a user, an item, a
row) and of the number's position (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC 2011).
Every part of a batch is given a generator in the same state, and so the same key.

Legend: N names, E numbers per name.
"""

import numpy as np
import numpy.typing as npt
import torch

from recmeta.tasks.episodes import splitmix64


def uniform_by(name_N: torch.Tensor, num: int, generator: torch.Generator) -> torch.Tensor:
    """Return float64 numbers (N, E), uniform in (0, 1), E for each name, on the names' device.

    Args:
        name_N: int64.
        num: E, the number of draws for each name.
        generator: yields the key; how far it advances does not depend on the names.
    """
    bits_NE = _hashed(name_N, num, generator) >> np.uint64(12)
    inside = (bits_NE.astype(np.float64) + 0.5) / 2**52
    return torch.from_numpy(inside).to(name_N.device)


def normal_by(
    name_N: torch.Tensor, like_NE: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return standard normal numbers for each name, in a tensor's shape (N, E) and dtype, each from
    two uniform ones (Box, Muller, Annals of Mathematical Statistics 1958)."""
    num = like_NE.shape[1]
    first, second = uniform_by(name_N, 2 * num, generator).chunk(2, 1)
    drawn = (-2 * first.log()).sqrt() * (2 * torch.pi * second).cos()
    return drawn.to(like_NE)


def generators_by(name_N: torch.Tensor, generator: torch.Generator) -> list[torch.Generator]:
    """Return a generator for each name, for code that draws an unknown number of values."""
    seed_N = _hashed(name_N, 1, generator)[:, 0] >> np.uint64(1)
    return [torch.Generator().manual_seed(int(seed)) for seed in seed_N]


def _hashed(name_N: torch.Tensor, num: int, generator: torch.Generator) -> npt.NDArray[np.uint64]:
    """Return (N, E) hashes of a key, the names and the positions."""
    key = torch.randint(2**62, (1,), generator=generator).numpy().astype(np.uint64)
    with np.errstate(over="ignore"):
        name: npt.NDArray[np.uint64] = name_N.cpu().numpy().astype(np.uint64)
        place_E: npt.NDArray[np.uint64] = np.arange(num, dtype=np.uint64)
        of_name = splitmix64(splitmix64(key) + name)
        return splitmix64(of_name[:, None] + place_E)
