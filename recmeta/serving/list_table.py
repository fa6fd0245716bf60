"""Ranked lists as rows."""

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.ranking import ScoringConfig, adapt_users, rank
from recmeta.tasks.task_set import Tasks


def lists(scorer: Scorer, tasks: Tasks, titles: pa.Array | None, config: ScoringConfig) -> pa.Table:
    """Return the ranked lists of some users, a row per user and rank."""
    users = adapt_users(scorer, tasks)
    ranked = rank(scorer, users, config)
    user, place = np.nonzero(ranked.item_Bk >= 0)
    item = pa.array(ranked.item_Bk[user, place])
    columns = {
        schema.USER_ID: pa.array(users.user_id).take(pa.array(user)),
        schema.RANK: pa.array((place + 1).astype(np.int32)),
        schema.ITEM_ID: scorer.model.catalogue.items.item_id.take(item),
        schema.TITLE: None if titles is None else titles.take(item),
        schema.SCORE: pa.array(ranked.score_Bk[user, place]),
    }
    return pa.table({name: c for name, c in columns.items() if c is not None})
