"""Scores and items as one whole number: the order is that of a stable sort."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recmeta.serving.ranking import item_keys, parted

scores = st.lists(
    st.floats(width=32, allow_nan=False)
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), 1e-45, -1e-45]),
    min_size=1,
    max_size=40,
)


@given(scores, st.sampled_from([0, 7, 2_000_000_000]))
def test_keys_order_as_a_stable_sort(values: list[float], first: int) -> None:
    score_BI = torch.tensor([values], dtype=torch.float32)
    keys = item_keys(score_BI, first)
    order = np.argsort(-score_BI[0].numpy(), kind="stable")
    top = keys.topk(len(values), dim=1).values
    found_scores, found_items = parted(top)
    np.testing.assert_array_equal(found_items[0].numpy(), order + first)
    np.testing.assert_array_equal(found_scores[0].numpy(), score_BI[0].numpy()[order])


@given(scores, st.integers(1, 39))
def test_keys_of_blocks_merge_into_the_whole_order(values: list[float], cut: int) -> None:
    score_BI = torch.tensor([values], dtype=torch.float32)
    parts = [item_keys(score_BI[:, :cut], 0), item_keys(score_BI[:, cut:], min(cut, len(values)))]
    assert torch.equal(torch.cat(parts, 1), item_keys(score_BI, 0))
