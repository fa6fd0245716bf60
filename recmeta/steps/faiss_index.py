"""Large inner products among many vectors, by Faiss (Douze et al., 2024)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from recmeta.errors import UserError
from recmeta.serving.retrieval import FloatArray, IntArray

EXACT_BELOW = 50_000
"""Vectors that are looked at one by one; of more, an inverted file looks at some cells."""
SHARE_PROBED = 1 / 16
"""Of the cells."""


class FaissIndex:
    """An index of item vectors."""

    def __init__(self, vector_If: FloatArray) -> None:
        """
        Raises:
            UserError: where Faiss is not installed.
        """
        try:
            import faiss
        except ModuleNotFoundError as error:
            raise UserError(
                "candidates are found by Faiss, which is not installed: install "
                "recmeta[retrieval], or leave out [score.retrieval], so that all items are scored."
            ) from error
        num_items, width = vector_If.shape
        vectors: npt.NDArray[np.float32] = np.ascontiguousarray(vector_If)
        num_cells = 0 if num_items < EXACT_BELOW else int(4 * num_items**0.5)
        kind = f"IVF{num_cells},Flat" if num_cells else "Flat"
        self._index: Any = faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT)
        if num_cells:
            self._index.train(vectors)
            faiss.extract_index_ivf(self._index).nprobe = max(1, int(num_cells * SHARE_PROBED))
        self._index.add(vectors)

    def search(self, query_Bf: FloatArray, num_found: int) -> IntArray:
        """Return (B, n) places of vectors with large inner products, the largest first; -1 where
        there are no more."""
        _, place_Bn = self._index.search(np.ascontiguousarray(query_Bf), num_found)
        return np.asarray(place_Bn, np.int64)
