"""Candidates from a catalogue that is too large to be scored for every user.

Whatever the learner, the scores of some users (anchors) for all items are nearly of low rank:

    score_ui ≈ mean_i + q_u · v_i

so a new user's q_u follows from exact scores of a few items (landmarks) by least squares, and the
items with the largest inner products [1, q_u] · [mean_i, v_i], which an index finds without looking
at all of them, are candidates to be scored exactly. For a learner that is linear in item vectors,
as the closed-form one is, this is exact up to the rank. For any learner, the share of items that it
misses is measured against the exhaustive lists; if it is too large, all items are scored after all.

Legend: B users, A anchors, I items, L landmarks, f factors, n candidates, k list length.
"""

import dataclasses
from typing import Literal, Protocol

import numpy as np
import torch

from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.arrays import Float32Array, IntArray

LANDMARKS_PER_FACTOR = 8
RIDGE = 1e-3
"""The ridge of the least squares, as a share of the factors' mean square."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """How candidates are found, and what recall is required."""

    candidates: int = 500
    """The number of items per user that are scored exactly."""
    num_factors: int = 32
    """The rank of the approximation of the scores."""
    num_anchors: int = 256
    """The number of users, the first ones, for whom all items are scored to find the factors."""
    num_judges: int = 128
    """The number of users, the next ones, whose lists are made in both ways to measure the
    recall."""
    min_recall: float = 0.95
    """The share of the items of exhaustive lists that must be found."""
    below: Literal["exhaustive", "fail"] = "exhaustive"
    """What happens if fewer are found: all items are scored, or the step fails."""

    def __post_init__(self) -> None:
        for name in ("candidates", "num_factors", "num_anchors", "num_judges"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 < self.min_recall <= 1:
            raise UserError(f"min_recall is {self.min_recall}; it must be above 0, at most 1.")


class Index(Protocol):
    """Finds large inner products."""

    def search(self, query_Bf: Float32Array, num_found: int) -> IntArray:
        """Return (B, n) places of vectors with large inner products, the largest first; -1 where
        there are no more."""
        ...


@dataclasses.dataclass(frozen=True)
class Factors:
    """The factors that nearly make up the scores of all users."""

    vector_If: Float32Array
    """[mean, v] of each item."""
    landmark_L: IntArray
    """The items for which new users' exact scores are computed."""
    solve_fL: Float32Array
    """Maps a user's scores of the landmarks, minus their means, to q."""

    @classmethod
    def of(
        cls, score_AI: Float32Array, num_factors: int, generator: np.random.Generator
    ) -> "Factors":
        """Return the factors of anchors' scores, by a truncated singular value decomposition."""
        num_items = score_AI.shape[1]
        mean_I = score_AI.mean(0)
        rest_AI = score_AI - mean_I
        # The anchors are few: their Gram matrix is small, however many items there are.
        _, left_AA = np.linalg.eigh(rest_AI @ rest_AI.T)
        left_Af = left_AA[:, ::-1][:, : min(num_factors, len(score_AI))]
        v_If = rest_AI.T @ left_Af
        # Half of the landmarks from the items that lists are made of, half from all.
        num_landmarks = min(num_items, LANDMARKS_PER_FACTOR * num_factors)
        best = np.argsort(-mean_I, kind="stable")[: num_landmarks // 2]
        others = generator.choice(num_items, num_landmarks - len(best), replace=False)
        landmark_L = np.unique(np.concatenate([best, others]))
        known_Lf = v_If[landmark_L]
        gram_ff = known_Lf.T @ known_Lf
        ridge = RIDGE * max(float(np.trace(gram_ff)) / len(gram_ff), 1e-12)
        solve_fL = np.linalg.solve(gram_ff + ridge * np.eye(len(gram_ff)), known_Lf.T)
        return cls(
            np.concatenate([mean_I[:, None], v_If], 1).astype(np.float32),
            landmark_L.astype(np.int64),
            solve_fL.astype(np.float32),
        )

    def query(self, score_BL: Float32Array) -> Float32Array:
        """Return (B, 1 + f) queries from users' exact scores of the landmarks."""
        rest_BL = score_BL - self.vector_If[self.landmark_L, 0]
        ones_B1 = np.ones((len(score_BL), 1), np.float32)
        return np.concatenate([ones_B1, rest_BL @ self.solve_fL.T], 1).astype(np.float32)


def rank_scores(scorer: Scorer, settled: dict[str, torch.Tensor], items: IntArray) -> Float32Array:
    """Return (B, items) the values by which lists are ordered, for items that all users share.

    Args:
        settled: from `Scorer.settled`, once for many calls: it reads the whole catalogue.
    """
    catalogue = scorer.model.catalogue
    last = len(catalogue.statistics.time) - 1
    rows = scorer.prepared(catalogue.item_rows(items, last, schema.END_OF_TIME))
    found: Float32Array = scorer.rank_block(settled, rows).float().cpu().numpy()
    return found


def recall(found_Bk: IntArray, truth_Bk: IntArray) -> float:
    """Return the share of the items of the exhaustive lists that is in the lists that were
    found."""
    named_Bk = truth_Bk >= 0
    is_found_Bk = (truth_Bk[:, :, None] == found_Bk[:, None, :]).any(2)
    return float((is_found_Bk & named_Bk).sum() / max(named_Bk.sum(), 1))
