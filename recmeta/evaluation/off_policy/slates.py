"""Lists that were served and their rewards, and the lists that another policy would serve.

Legend: U users, S slates (served lists), N logged places, T places of the other policy's lists.
"""

import dataclasses

import numpy as np

from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggedSlates:
    """The lists that were served, place by place."""

    user_S: IntArray
    """The user of each slate, numbered from 0 without gaps."""
    slate_N: IntArray
    """The slate of each place, numbered from 0."""
    place_N: IntArray
    """The place in the list, from 0 at the top."""
    item_N: IntArray
    """The numbers of the items, the same as in the other policy's lists."""
    propensity_N: Float64Array
    """The probability with which this item was shown at this place of this slate, above 0 and at
    most 1."""
    reward_N: Float64Array
    """The reward of the place, such as 1 for a click and 0 for none."""
    predicted_N: Float64Array | None = None
    """The rewards that a model predicts for each place. If None, one is learned from the log."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherLists:
    """The lists that another policy would serve in place of each slate."""

    slate_T: IntArray
    place_T: IntArray
    item_T: IntArray
    probability_T: Float64Array
    """The probability with which the policy puts the item there; 1 if its lists are not random."""
    predicted_T: Float64Array | None = None
    """As in `LoggedSlates`; both are given, or neither."""


def importance_weights(logged: LoggedSlates, other: OtherLists) -> Float64Array:
    """Return (N,) the probability ratios: how much more likely the other policy is than the one
    that served to put each item where it was shown, 0 if it never does."""
    other_key_T = _keys(logged, other.slate_T, other.place_T, other.item_T, other)
    key_N = _keys(logged, logged.slate_N, logged.place_N, logged.item_N, other)
    order_T = np.argsort(other_key_T, kind="stable")
    sorted_T = other_key_T[order_T]
    found_N = np.searchsorted(sorted_T, key_N)
    inside_N: BoolArray = found_N < len(sorted_T)
    matched_N = np.zeros(len(key_N), np.bool_)
    matched_N[inside_N] = sorted_T[found_N[inside_N]] == key_N[inside_N]
    probability_N = np.zeros(len(key_N))
    probability_N[matched_N] = other.probability_T[order_T[found_N[matched_N]]]
    weight_N: Float64Array = probability_N / logged.propensity_N
    return weight_N


def _keys(
    logged: LoggedSlates, slate: IntArray, place: IntArray, item: IntArray, other: OtherLists
) -> IntArray:
    """Return a distinct number for each slate, place and item."""
    num_places = 1 + max(logged.place_N.max(initial=0), other.place_T.max(initial=0))
    num_items = 1 + max(logged.item_N.max(initial=0), other.item_T.max(initial=0))
    found: IntArray = (slate * num_places + place) * num_items + item
    return found
