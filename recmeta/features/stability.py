"""The population stability index: how far a distribution has moved from a reference.

PSI = Σ_b (q_b - p_b) · ln(q_b / p_b), over bins b with the shares p of the reference and q of now:
the symmetrised Kullback-Leibler divergence (Siddiqi, Credit Risk Scorecards, 2006). By convention,
an index below 0.1 is stable, and one above 0.25 has shifted. Two samples of the same distribution
also have a positive index: about (bins - 1) · (1/n + 1/m), from its χ² limit (Yurdakul, 2018).
"""

import dataclasses

import numpy as np
import polars as pl

from recmeta.tasks.arrays import Float64Array

NUM_BINS = 10
MAX_CATEGORIES = 20
"""The number of the reference's most frequent categories that have bins of their own; the others
share one."""
PSEUDO_COUNT = 0.5
"""Added to every bin, so that an empty bin does not make the index infinite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stability:
    """The stability of one attribute."""

    index: float
    """The population stability index."""
    by_chance: float
    """The approximate index of two samples of this size from the same distribution."""

    @property
    def excess(self) -> float:
        """The index beyond chance, not below 0."""
        return max(0.0, self.index - self.by_chance)


def stability(reference: pl.Series, now: pl.Series) -> Stability | None:
    """Return the stability of two samples of one attribute, or None if either is empty.

    Numbers are binned at the deciles of the reference; strings are categories; lists count once
    per value. Nulls are a bin of their own.
    """
    if reference.dtype == pl.List:
        reference, now = reference.explode(), now.cast(reference.dtype).explode()
    if not len(reference) or not len(now):
        return None
    if reference.dtype.is_numeric():
        expected, actual = _counts_of_numbers(reference, now.cast(pl.Float64))
    else:
        expected, actual = _counts_of_categories(reference, now.cast(reference.dtype))
    occurs = (expected + actual) > 0  # a bin that is empty in both says nothing
    p = expected[occurs] + PSEUDO_COUNT
    q = actual[occurs] + PSEUDO_COUNT
    p, q = p / p.sum(), q / q.sum()
    return Stability(
        index=float(np.sum((q - p) * np.log(q / p))),
        by_chance=float((occurs.sum() - 1) * (1 / expected.sum() + 1 / actual.sum())),
    )


def _counts_of_numbers(reference: pl.Series, now: pl.Series) -> tuple[Float64Array, Float64Array]:
    known = reference.drop_nulls().to_numpy().astype(np.float64)
    inner = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(known, inner)) if len(known) else np.zeros(0)

    def counts(values: pl.Series) -> Float64Array:
        numbers = values.drop_nulls().to_numpy().astype(np.float64)
        place = np.searchsorted(edges, numbers, side="left")
        inside = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
        return np.append(inside, values.null_count())

    return counts(reference), counts(now)


def _counts_of_categories(
    reference: pl.Series, now: pl.Series
) -> tuple[Float64Array, Float64Array]:
    frequent = reference.drop_nulls().value_counts(sort=True).head(MAX_CATEGORIES)
    known = frequent.get_column(reference.name)

    def counts(values: pl.Series) -> Float64Array:
        code = pl.DataFrame({"v": values}).join(
            pl.DataFrame({"v": known}).with_row_index("code"), on="v", how="left"
        )["code"]
        place = code.drop_nulls().to_numpy()
        inside = np.bincount(place, minlength=len(known)).astype(np.float64)
        nulls = values.null_count()
        return np.append(inside, [len(values) - nulls - len(place), nulls])

    return counts(reference), counts(now)
