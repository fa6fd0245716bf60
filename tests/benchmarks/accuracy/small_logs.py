"""Small logs for the tests of this folder, drawn from a seed."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.accuracy.log import Log
from benchmarks.accuracy.states import COLD_STATES
from recmeta import schema
from recmeta.tasks.item_files import Items


def shared_data() -> Path:
    """Return the folder of the real data sets; skip the test where they are absent."""
    root = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data"))
    if not (root / "ml-1m" / "interactions.parquet").exists():
        pytest.skip(f"the data sets are not in {root} (RECMETA_SHARED_DATA)")
    return root


def small_log(
    num_users: int = 80, num_items: int = 120, seed: int = 0, *, graded: bool = True
) -> Log:
    """Return a log with states, times and baskets: a quarter of users and of items is new."""
    rng = np.random.default_rng(seed)
    item_UR = np.argsort(rng.random((num_users, num_items)), axis=1)[:, : (3 * num_items) // 4]
    user = np.repeat(np.arange(num_users), item_UR.shape[1])
    item = item_UR.ravel()
    taste_U, quality_I = rng.normal(0, 0.5, num_users), rng.normal(0, 0.7, num_items)
    value = 3.3 + taste_U[user] + quality_I[item] + rng.normal(0, 0.5, len(user))
    new_user, new_item = user >= (3 * num_users) // 4, item >= (3 * num_items) // 4
    both, of_user, of_item = COLD_STATES[2], COLD_STATES[0], COLD_STATES[1]
    appears_U = np.sort(rng.integers(0, 10_000, num_users))
    place = np.tile(np.arange(item_UR.shape[1]), num_users)
    names = np.array([f"i{i:03d}" for i in range(num_items)])
    return Log(
        profiles=pa.table(
            {
                "user_id": [f"u{u:03d}" for u in range(num_users)],
                "group": [f"g{u % 3}" for u in range(num_users)],
            }
        ),
        items=Items(
            pa.array(names.tolist()),
            np.arange(num_items, dtype=np.int32),
            np.full(num_items, schema.ALWAYS),
            pa.table(
                {
                    "year": pa.array(1980.0 + np.arange(num_items) % 20),
                    "genres": pa.array([[f"a{i % 4}", f"b{i % 7}"] for i in range(num_items)]),
                }
            ),
        ),
        user=user,
        item=item,
        value=(np.clip(np.round(value), 1, 5) if graded else np.ones(len(user))).astype(np.float32),
        time=appears_U[user] + 10 * place,
        state=np.select(
            [new_user & new_item, new_user, new_item], [both, of_user, of_item], "warm"
        ),
        basket=place // 5,
        about={
            "name": "small",
            "sha256": f"small-{seed}",
            "verified": {"rows": len(user)},
            "cite": "",
        },
    )
