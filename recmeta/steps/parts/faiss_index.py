"""Large inner products among many vectors, by Faiss (Douze et al., 2024).

Cells of an inverted file that are made for inner products put the few items that everybody likes
where most queries do not look. With one more dimension, sqrt(max |v|² - |v|²), all vectors are of
one length, the nearest is the one with the largest product, and cells are made for distances
(Bachrach et al., RecSys 2014).

Legend: I items, f numbers of a vector, A users to tune by, B users, n found, k tuned for.
"""

from typing import Any

import numpy as np

from recmeta.errors import UserError
from recmeta.tasks.arrays import Float32Array, IntArray

EXACT_BELOW = 50_000
"""Up to this many vectors are all compared; with more, an inverted file compares some cells."""
FEWEST_PROBED = 8
"""The number of cells that are searched at first, and the least."""
TUNED_RECALL = 0.995
"""Share of the largest products that must be found; the number of searched cells is doubled until
it is."""
TUNED_FOR = 10
"""The number of largest products that this share is of."""


class FaissIndex:
    """An index of item vectors."""

    def __init__(self, vector_If: Float32Array, query_Af: Float32Array) -> None:
        """
        Args:
            query_Af: queries of some users, on which the number of searched cells is tuned.

        Raises:
            UserError: if Faiss is not installed.
        """
        try:
            import faiss
        except ModuleNotFoundError as error:
            raise UserError(
                "candidates are found by Faiss, which is not installed: install "
                "recmeta[retrieval], or leave out [score.retrieval], so that all items are scored."
            ) from error
        num_items, width = vector_If.shape
        self.num_cells = self.num_probed = 0
        """The number of cells of the inverted file, and of those that are searched; 0 if there is
        none."""
        self._is_exact = num_items < EXACT_BELOW
        if self._is_exact:
            self._index: Any = faiss.IndexFlatIP(width)
            self._index.add(np.ascontiguousarray(vector_If))
            return
        self.num_cells = int(4 * num_items**0.5)
        length2_I = (vector_If.astype(np.float64) ** 2).sum(1)
        missing_I1 = np.sqrt(length2_I.max() - length2_I)[:, None]
        vectors = np.concatenate([vector_If, missing_I1], 1).astype(np.float32)
        self._index = faiss.index_factory(width + 1, f"IVF{self.num_cells},Flat", faiss.METRIC_L2)
        self._index.train(vectors)
        self._index.add(vectors)
        least_A = np.array([_nth_largest(vector_If @ query_f) for query_f in query_Af])
        self._probe(FEWEST_PROBED)
        while self.num_probed < self.num_cells:
            place_Ak = self.search(query_Af, TUNED_FOR)
            product_Ak = np.einsum("akf,af->ak", vector_If[place_Ak], query_Af)
            # By their size: which of equal items are the largest is chance.
            if ((place_Ak >= 0) & (product_Ak >= least_A[:, None])).mean() >= TUNED_RECALL:
                break
            self._probe(2 * self.num_probed)

    def _probe(self, num_cells: int) -> None:
        import faiss

        self.num_probed = min(num_cells, self.num_cells)
        faiss.extract_index_ivf(self._index).nprobe = self.num_probed

    def search(self, query_Bf: Float32Array, num_found: int) -> IntArray:
        """Return (B, n) places of vectors with large inner products, the largest first; -1 where
        there are no more."""
        if not self._is_exact:
            query_Bf = np.pad(query_Bf, ((0, 0), (0, 1)))
        _, place_Bn = self._index.search(np.ascontiguousarray(query_Bf), num_found)
        return np.asarray(place_Bn, np.int64)


def _nth_largest(product_I: Float32Array) -> float:
    """Return what the `TUNED_FOR` largest products are at least, up to rounding."""
    least = float(np.partition(product_I, -TUNED_FOR)[-TUNED_FOR])
    return least - 1e-4 * float(product_I.std())
