"""A list built place by place, some places at random, and the probability of each item at each
place.

Candidates are numbered by their place in the list as it would be without exploration. Place by
place, with probability ε the next item is the first one left of an exploring order, else the first
one left of the plain order. Nothing of a place depends on those below it, so that a list's
beginning does not depend on how long it is.

    uniform    the exploring order is a random permutation. P(item at place) follows from how many
               better candidates were used before, a Markov chain: it is exact.
    otherwise  P is estimated by lists drawn independently of the one that is shown, (1 + X) / (1 +
               D) with X of D lists having the item there. The reciprocal of that, which
               off-policy estimates weigh by, has the expectation (1 − (1 − P)^(D + 1)) / P: it is
               right but for items that are shown less often than once in D lists.

Legend: D drawn lists, C or c candidates, k places, u better candidates used.
"""

import numpy as np

from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray


def put_together(explored_DC: IntArray, explores_Dk: BoolArray) -> IntArray:
    """Return (D, k) the candidates of lists, best place first.

    Args:
        explored_DC: each list's exploring order, of the first k candidates at least.
        explores_Dk: whether the place explores; k is not above the number of candidates.
    """
    num_lists, length = explores_Dk.shape
    highest = int(explored_DC.max(initial=length - 1))
    used_DC = np.zeros((num_lists, 1 + max(highest, length - 1)), np.bool_)
    rows, chosen_Dk = np.arange(num_lists), np.empty((num_lists, length), np.int64)
    for place in range(length):
        plain_D = used_DC[:, :length].argmin(1)  # so many at most were used before
        free_DC = ~np.take_along_axis(used_DC, explored_DC[:, :length], 1)
        explored_D = explored_DC[rows, free_DC.argmax(1)]
        chosen_D = np.where(explores_Dk[:, place], explored_D, plain_D)
        used_DC[rows, chosen_D] = True
        chosen_Dk[:, place] = chosen_D
    return chosen_Dk


def plain_choices(chosen_k: IntArray) -> IntArray:
    """Return (k,) the candidate that each place of a list would have got without exploring."""
    used_k, plain_k = np.zeros(len(chosen_k) + 1, np.bool_), np.empty(len(chosen_k), np.int64)
    for place, candidate in enumerate(chosen_k):
        plain_k[place] = used_k.argmin()
        used_k[min(candidate, len(chosen_k))] |= candidate < len(chosen_k)
    return plain_k


def uniform_probabilities(num_candidates: int, length: int, share: float) -> Float64Array:
    """Return (C, k) the probability of each candidate at each place if exploring orders are random
    permutations.

    Args:
        num_candidates: C, at least `length`.
        share: ε.
    """
    # Row c is of candidate c, column u of u better ones used; those below that no list reaches in
    # the plain order are alike.
    num_rows = min(length + 1, num_candidates)
    better_cu = np.arange(num_rows)[:, None] - np.arange(num_rows)  # that are left
    chance_cu = np.zeros((num_rows, num_rows))  # that so many are used, and the candidate is not
    chance_cu[:, 0] = 1.0
    found = np.empty((num_candidates, length))
    for place in range(length):
        left = num_candidates - place
        plain_c = (1 - share) * np.diagonal(chance_cu)
        found[:num_rows, place] = share * chance_cu.sum(1) / left + plain_c
        one_more_cu = chance_cu * (share * better_cu / left + (1 - share))
        np.fill_diagonal(one_more_cu, 0.0)  # then the plain order takes the candidate itself
        chance_cu *= share * np.maximum(left - 1 - better_cu, 0) / left
        chance_cu[:, 1:] += one_more_cu[:, :-1]
    found[num_rows:] = found[num_rows - 1]
    return found


def drawn_probabilities(shown_k: IntArray, drawn_Dk: IntArray) -> Float64Array:
    """Return (k,) the probabilities of the shown list's candidates at their places.

    Args:
        drawn_Dk: lists that were drawn independently of it.
    """
    times_k = (drawn_Dk == shown_k).sum(0)
    probability_k: Float64Array = (1 + times_k) / (1 + len(drawn_Dk))
    return probability_k
