"""Lists built from candidates, one place after the other: diverse, with a limited number per
category.

Legend: B users, m candidates, k places, W categories of an item (padded), c categories in all.
"""

import dataclasses

import numpy as np

from recmeta.tasks.arrays import BoolArray, Float32Array, IntArray


@dataclasses.dataclass(frozen=True)
class Cap:
    """How many items of one category a list may have."""

    code_IW: IntArray
    """Each item's categories; -1 is none."""
    at_most: int


class Arrangement:
    """The lists of B users while they are being built."""

    def __init__(
        self,
        num_users: int,
        length: int,
        caps: tuple[Cap, ...] = (),
        kind_IW: IntArray | None = None,
        diversity: float = 0.0,
    ) -> None:
        """
        Args:
            kind_IW: the kinds of items, as numbers that similar items share; -1 is none.
            diversity: weight of the similarity to the items above, from 0 to below 1.
        """
        self.item_Bk = np.full((num_users, length), -1, np.int64)
        self.num_placed_B = np.zeros(num_users, np.int64)
        self.caps = caps
        self.kind_IW = kind_IW
        self.diversity = diversity
        self._counts = [
            np.zeros((num_users, int(cap.code_IW.max(initial=0)) + 2), np.int64) for cap in caps
        ]  # the last column is of -1, and is never full

    def fill(self, item_Bm: IntArray) -> None:
        """Fill the places that are left from candidates, the best first; -1 is none.

        A candidate's relevance falls evenly with its place, so that it does not depend on the scale
        of scores.
        """
        num_users, num_candidates = item_Bm.shape
        length = self.item_Bk.shape[1]
        is_open_Bm = (item_Bm >= 0) & ~self._placed(item_Bm)
        relevance_m = 1 - np.arange(num_candidates, dtype=np.float32) / max(num_candidates, 1)
        likeness_Bm = np.zeros(item_Bm.shape, np.float32)
        if self.diversity:
            for place in range(length):
                likeness_Bm = np.maximum(
                    likeness_Bm, self._likeness(item_Bm, self.item_Bk[:, place])
                )
        user_B = np.arange(num_users)
        for _ in range(length):
            may_Bm = is_open_Bm & self._under_caps(item_Bm)
            worth_Bm = (1 - self.diversity) * relevance_m - self.diversity * likeness_Bm
            worth_Bm = np.where(may_Bm, worth_Bm, -np.inf)
            best_B = worth_Bm.argmax(1) if num_candidates else np.zeros(num_users, np.int64)
            lacks_B = self.num_placed_B < length
            takes = user_B[lacks_B & may_Bm.any(1)]
            if not len(takes):
                return
            chosen = item_Bm[takes, best_B[takes]]
            self.item_Bk[takes, self.num_placed_B[takes]] = chosen
            self.num_placed_B[takes] += 1
            is_open_Bm[takes, best_B[takes]] = False
            for cap, count_Bc in zip(self.caps, self._counts, strict=True):
                for code in cap.code_IW[chosen].T:
                    np.add.at(count_Bc, (takes[code >= 0], code[code >= 0]), 1)
            if self.diversity:
                last_B = np.full(num_users, -1, np.int64)
                last_B[takes] = chosen
                likeness_Bm = np.maximum(likeness_Bm, self._likeness(item_Bm, last_B))

    def _placed(self, item_Bm: IntArray) -> BoolArray:
        found_Bm = np.zeros(item_Bm.shape, np.bool_)
        for place in range(self.item_Bk.shape[1]):
            found_Bm |= item_Bm == self.item_Bk[:, place, None]
        return found_Bm

    def _under_caps(self, item_Bm: IntArray) -> BoolArray:
        """Return whether each item would leave all its categories within their caps."""
        under_Bm = np.ones(item_Bm.shape, np.bool_)
        row_B11 = np.arange(len(item_Bm))[:, None, None]
        for cap, count_Bc in zip(self.caps, self._counts, strict=True):
            under_Bm &= (count_Bc[row_B11, cap.code_IW[item_Bm]] < cap.at_most).all(2)
        return under_Bm

    def _likeness(self, item_Bm: IntArray, other_B: IntArray) -> Float32Array:
        """Return the cosine of the candidates' kinds with those of one other item; 0 if there are
        none."""
        assert self.kind_IW is not None
        kind_BmW = self.kind_IW[item_Bm]
        other_BW = np.where(other_B[:, None] >= 0, self.kind_IW[other_B], -2)
        shared_Bm = np.zeros(item_Bm.shape, np.float32)
        for code_B in other_BW.T:
            shared_Bm += ((kind_BmW == code_B[:, None, None]) & (kind_BmW >= 0)).any(2)
        sizes = (kind_BmW >= 0).sum(2) * (other_BW >= 0).sum(1)[:, None]
        likeness: Float32Array = (shared_Bm / np.sqrt(np.maximum(sizes, 1))).astype(np.float32)
        return likeness
