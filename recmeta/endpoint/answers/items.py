"""Search in the catalogue, by title where there are titles, else by id."""

import numpy as np
import pyarrow.compute as pc

from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.models import Item


def search(champion: ServedChampion, query: str, limit: int) -> list[Item]:
    """Return items whose title has every word of the query, those that most users met first."""
    names, numbers = champion.names, np.arange(len(champion.names))
    # Each word looks at what the ones before have left: many words cost little more than one.
    for word in dict.fromkeys(query.lower().split()):
        found = pc.match_substring(names, word)
        names, numbers = names.filter(found), numbers[found.to_numpy(zero_copy_only=False)]
    best = numbers[np.argsort(-champion.popularity[numbers], kind="stable")[:limit]]
    return [
        Item(item_id=champion.item_ids[number], title=champion.titles[number])
        for number in best.tolist()
    ]
