"""Answers from the catalogue alone: items by their titles or ids, and items similar to one.

Legend: I items.
"""

from typing import Literal

import numpy as np
import pyarrow.compute as pc
import torch

from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.models import Item, SimilarAnswer, SimilarItem
from recmeta.metalearn.heads.choice_head import PREDICTS
from recmeta.metalearn.heads.neighbours import Neighbours
from recmeta.serving.rules import kinds
from recmeta.tasks.arrays import Float32Array

DIGITS = 6
"""Decimal places in answers: further ones are noise of single precision."""
Likeness = Literal["choices", "neighbours", "attributes"]


def search(champion: ServedChampion, query: str, limit: int) -> list[Item]:
    """Return items whose title has every word of the query, those with the most users first."""
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


def similar(champion: ServedChampion, number: int, limit: int) -> SimilarAnswer:
    """Return the items that are most similar to one, among those that the rules let into lists."""
    by, likeness_I = _likeness(champion, number)
    likeness_I[~champion.lists.is_eligible_I] = 0
    likeness_I[number] = 0
    best = np.argsort(-likeness_I, kind="stable")[:limit]
    return SimilarAnswer(
        model_version=champion.version,
        by=by,
        items=[
            SimilarItem(
                item_id=champion.item_ids[other],
                title=champion.titles[other],
                similarity=round(float(likeness_I[other]), DIGITS),
            )
            for other in best[likeness_I[best] > 0].tolist()
        ],
    )


def _likeness(champion: ServedChampion, number: int) -> tuple[Likeness, Float32Array]:
    """Return what the similarity is based on, and (I,) the similarity of each item, positive if it
    is similar."""
    head = champion.scorer.lists
    if head.choices is not None:
        vector_ID = head.choices.params[PREDICTS]
        length_I = torch.linalg.vector_norm(vector_ID, dim=1)
        if length_I[number] > 0:
            product_I = vector_ID @ vector_ID[number] / length_I[number]
            cosine_I: Float32Array = (product_I / length_I.clamp(min=1e-12)).cpu().numpy()
            return "choices", cosine_I
    item_11 = torch.tensor([[number]], device=head.count_I.device)
    for name in head.table_names:
        table = head.tables[name]
        strength_I = table.evidence(item_11, torch.ones_like(item_11, dtype=torch.float32))[0]
        if (strength_I > 0).any():
            by: Likeness = "neighbours" if isinstance(table, Neighbours) else "attributes"
            return by, strength_I.cpu().numpy().astype(np.float32)
    return "attributes", _alike(champion, number)


def _alike(champion: ServedChampion, number: int) -> Float32Array:
    """Return (I,) the cosine of the values of categorical attributes."""
    shared_I = np.zeros(len(champion.item_ids), np.float32)
    counts_I = np.zeros(len(champion.item_ids), np.float32)
    for name in kinds(champion.model.catalogue.items):
        code_IW = champion.attributes.codes(name)[0]
        own = code_IW[number][code_IW[number] >= 0]
        shared_I += np.isin(code_IW, own).sum(1)
        counts_I += (code_IW >= 0).sum(1)
    norm_I = np.sqrt(np.maximum(counts_I * counts_I[number], 1))
    return np.asarray(shared_I / norm_I, np.float32)
