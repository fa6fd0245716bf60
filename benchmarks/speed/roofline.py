"""The speed limit of this machine for some work: counted operations and bytes, and measured
ceilings (Williams, Waterman, Patterson, "Roofline", CACM 2009).

The floor of a work's time is the larger of two: its multiplications and additions at the rate of
the machine's best matrix product, and what its operations read and write at the rate of a copy.
Both ceilings are those of tensors that fit a core's cache, in which a CPU's groups of users are
meant to stay. No arrangement of the same operations can be faster.

There is also a tighter floor: only the work's own matrix products, each with its own shape and with
operands in the cache.
"""

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

PRODUCT_SIDE = 256
"""Rows and columns of the measured product: a quarter MiB, and as fast as it gets on a core."""
COPY_BYTES = 2**20
REPEATS = 200
TABLE_OPERATIONS = ("index_select", "embedding", "_embedding_bag", "index_add_", "index")
"""The operations that read or write only rows of a table, of which only the rows are counted."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
PRODUCT_REPEATS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """The needs of some work, and the rates of the machine."""

    flops: float
    """The number of multiplications and additions in its matrix products."""
    bytes: float
    """The number of bytes read and written by its operations, one after the other."""
    peak_flops: float
    """Per second."""
    bandwidth: float
    """Bytes per second, read and written."""
    product_seconds: float
    """The time of its matrix products by themselves, divided evenly among the threads."""

    @property
    def seconds(self) -> float:
        """The least time."""
        return max(self.flops / self.peak_flops, self.bytes / self.bandwidth)

    def to_dict(self, num_users: int, users_per_second: float) -> dict[str, float]:
        """Return the roofline's columns of a row, per user, beside a measured speed."""
        floor = num_users / self.seconds
        return {
            "flops_per_user": self.flops / num_users,
            "bytes_per_user": self.bytes / num_users,
            "peak_flops": self.peak_flops,
            "bandwidth": self.bandwidth,
            "ceiling_users_per_second": floor,
            "share_of_ceiling": users_per_second / floor,
            "share_of_products": users_per_second * self.product_seconds / num_users,
        }


def roofline(work: Callable[[], Any], device: torch.device) -> Roofline:
    """Return the roofline of some work, with as many threads as PyTorch has."""
    threads = torch.get_num_threads()
    peak_flops, bandwidth = ceilings(device)
    torch.set_num_threads(1)  # what other threads do is not counted
    try:
        with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
            work()
        with Products() as products:
            work()
        product_seconds = products.seconds(device)
    finally:
        torch.set_num_threads(threads)
    return Roofline(
        flops=flops.get_total_flops(),
        bytes=traffic.bytes,
        peak_flops=peak_flops,
        bandwidth=bandwidth,
        product_seconds=product_seconds / (threads if device.type == "cpu" else 1),
    )


def ceilings(device: torch.device) -> tuple[float, float]:
    """Return the best rates of matrix products (FLOP/s) and of copies (bytes/s), all threads
    together."""
    side = PRODUCT_SIDE if device.type == "cpu" else 16 * PRODUCT_SIDE
    size = COPY_BYTES if device.type == "cpu" else 256 * COPY_BYTES
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    left, right = (torch.rand(threads, side, side, device=device) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.rand(threads * size // 4, device=device)
    target = torch.empty_like(source)
    return (
        2 * side**3 * threads / _best(lambda: torch.bmm(left, right, out=product), device),
        2 * size * threads / _best(lambda: target.copy_(source), device),
    )


def _best(work: Callable[[], Any], device: torch.device, repeats: int = REPEATS) -> float:
    """Return the seconds of the fastest of many."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        wait_for(device)
        best = min(best, time.perf_counter() - start)
    return best


def wait_for(device: torch.device) -> None:
    """Return when a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes that operations read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        name = func.overloadpacket.__name__
        written = _bytes(result)
        if name in TABLE_OPERATIONS:
            rows = _bytes(args[-1]) if name == "index_add_" else written
            self.bytes += 2 * rows
        else:
            self.bytes += written + _bytes((args, kwargs))
        return result


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps one of each kind of matrix product, and counts them.

    Use: `with Products() as products: work()`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts: Counter[Any] = Counter()
        self._kinds: dict[Any, Callable[[], Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            kind = (func, *((a.shape, a.stride()) for a in args))
            self._counts[kind] += 1
            self._kinds.setdefault(kind, functools.partial(func, *args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def compute(self) -> None:
        """Compute all of these products once more, and nothing else."""
        with torch.no_grad():
            for kind, product in self._kinds.items():
                for _ in range(self._counts[kind]):
                    product()

    def seconds(self, device: torch.device) -> float:
        """Return the time of all products, one after the other, each kind at its fastest."""
        with torch.no_grad():
            return sum(
                self._counts[kind] * _best(product, device, PRODUCT_REPEATS)
                for kind, product in self._kinds.items()
            )


def _bytes(tree: Any) -> int:
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)
