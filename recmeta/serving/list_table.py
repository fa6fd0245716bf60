"""Lists as rows."""

import dataclasses

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.lists import LISTED_BY, ListMaker, relative_likelihoods
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.tasks.task_set import Tasks


def lists(scorer: Scorer, tasks: Tasks, titles: pa.Array | None, config: ScoringConfig) -> pa.Table:
    """Return the lists of some users, a row per user and rank. For lists that explore, rows also
    say what put the item at its place, and its propensity."""
    users = adapt_users(scorer, tasks)
    maker = ListMaker(scorer, dataclasses.replace(config, reasons=False))
    made = maker.make(users, tasks)
    user, place = np.nonzero(made.item_Bk >= 0)
    item = pa.array(made.item_Bk[user, place])
    columns = {
        schema.USER_ID: pa.array(users.user_id, pa.string()).take(pa.array(user)),
        schema.RANK: pa.array((place + 1).astype(np.int32)),
        schema.ITEM_ID: scorer.model.catalogue.items.item_id.take(item),
        schema.TITLE: None if titles is None else titles.take(item),
        schema.RELATIVE_LIKELIHOOD: pa.array(relative_likelihoods(made.worth_Bk)[user, place]),
        schema.SCORE: pa.array(made.score_Bk[user, place]),
    }
    if config.explore is not None:
        columns |= {
            schema.LISTED_BY: pa.array(LISTED_BY).take(pa.array(made.listed_by_Bk[user, place])),
            schema.PROPENSITY: pa.array(made.propensity_Bk[user, place]),
        }
    return pa.table({name: c for name, c in columns.items() if c is not None})
