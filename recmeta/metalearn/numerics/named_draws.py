"""Random numbers by name: what is drawn for a user or an item does not depend on who else is there.

A batch's gradient may be computed in parts, by several processes, in any order. A generator gives
its numbers one after the other, so that a user's would depend on their position. Here the generator
gives one key, and each number is a hash of the key, of a name (of a user, an item, a row) and of
the number's place (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC 2011). Every part of a
batch is given a generator in the same state, and so the same key.

Legend: N names, E numbers of each.
"""

import numpy as np
import numpy.typing as npt
import torch

from recmeta.tasks.episodes import splitmix64


def uniform_by(name_N: torch.Tensor, num: int, generator: torch.Generator) -> torch.Tensor:
    """Return (N, E) float64 numbers of each name, uniform in (0, 1), on the names' device.

    Args:
        name_N: int64.
        num: how many for each name, E.
        generator: gives the key; how far it moves does not depend on the names.
    """
    bits_NE = _hashed(name_N, num, generator) >> np.uint64(12)
    inside = (bits_NE.astype(np.float64) + 0.5) / 2**52
    return torch.from_numpy(inside).to(name_N.device)


def normal_by(
    name_N: torch.Tensor, like_NE: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return standard normal numbers of each name, in a tensor's shape (N, E) and dtype, of two
    uniform ones each (Box, Muller, Annals of Mathematical Statistics 1958)."""
    num = like_NE.shape[1]
    first, second = uniform_by(name_N, 2 * num, generator).chunk(2, 1)
    drawn = (-2 * first.log()).sqrt() * (2 * torch.pi * second).cos()
    return drawn.to(like_NE)


def generators_by(name_N: torch.Tensor, generator: torch.Generator) -> list[torch.Generator]:
    """Return a generator of each name's own, for what draws as it goes."""
    seed_N = _hashed(name_N, 1, generator)[:, 0] >> np.uint64(1)
    return [torch.Generator().manual_seed(int(seed)) for seed in seed_N]


def _hashed(name_N: torch.Tensor, num: int, generator: torch.Generator) -> npt.NDArray[np.uint64]:
    """Return (N, E) hashes of a key, names and places."""
    key = torch.randint(2**62, (1,), generator=generator).numpy().astype(np.uint64)
    with np.errstate(over="ignore"):
        name: npt.NDArray[np.uint64] = name_N.cpu().numpy().astype(np.uint64)
        place_E: npt.NDArray[np.uint64] = np.arange(num, dtype=np.uint64)
        of_name = splitmix64(splitmix64(key) + name)
        return splitmix64(of_name[:, None] + place_E)
