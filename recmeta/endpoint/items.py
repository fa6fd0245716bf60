"""Search in the catalogue, by title where there are titles, else by id."""

import numpy as np
import pyarrow.compute as pc

from recmeta.endpoint.champion import Champion
from recmeta.endpoint.models import Item


def search(champion: Champion, query: str, limit: int) -> list[Item]:
    """Return items whose title has every word of the query, those that most users met first."""
    matches = np.ones(len(champion.names), np.bool_)
    for word in query.lower().split():
        found = pc.match_substring(champion.names, word)
        matches &= found.to_numpy(zero_copy_only=False)
    numbers = np.flatnonzero(matches)
    best = numbers[np.argsort(-champion.popularity[numbers], kind="stable")[:limit]]
    return [
        Item(item_id=champion.item_ids[number], title=champion.titles[number])
        for number in best.tolist()
    ]
