"""MovieLens 1M in MeLU's shape (Lee et al., KDD 2019): the data of the speed benchmarks.

Users with 13 to 100 warm ratings, 10 of them drawn as query, the others support; gender, age,
occupation and postcode of users; rate, genres, directors and actors of items; embeddings of 32,
decision layers 256 → 64 → 64 → 1. Where MovieLens 1M is absent, synthetic rows of the same shape
stand in: as many users and items, lengths and vocabularies as long.

Legend: U users, I items, N rows.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from recmeta import schema
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.tensors.encoding import Encoder, FeatureConfig
from recmeta.tasks.arrays import offsets_of, positions_of
from recmeta.tasks.item_files import Items, ItemStatistics
from recmeta.tasks.task_set import Ragged, Tasks

NUM_QUERY = 10
FEWEST, MOST = 13, 100
NUM_USERS_ON_GPU = 65_536
USER_FEATURES = ("gender", "age", "occupation", "zip_code")
ITEM_FEATURES = ("rate", "genres", "directors", "actors")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeluShape:
    """The input of every contestant."""

    source: str
    """`ml-1m` or `synthetic`."""
    tasks: Tasks
    """The warm users."""
    model: Model
    """MeLU over the whole catalogue, with parameters."""

    @property
    def learner(self) -> MAMLConfig:
        """The inner loop that every contestant takes."""
        config = self.model.config.learner
        assert isinstance(config, MAMLConfig), "MeLU adapts as MAML does"
        return config


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Log:
    """Users, items and warm ratings, with numbers for ids."""

    source: str
    users: pa.Table
    """USER_FEATURES."""
    items: pa.Table
    """ITEM_FEATURES."""
    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]


def melu_shape(
    *,
    config: ModelConfig | None = None,
    num_steps: int = 1,
    inner_learning_rate: float = 0.02,
    device: str = "cpu",
) -> MeluShape:
    """Return tasks and a freshly drawn model, the same in every process.

    Args:
        config: another model over the same catalogue, or None for MeLU with the settings below.
        num_steps: inner gradient steps.
        inner_learning_rate: far above the paper's 5e-6, with which adaptation changes too little
            for the contestants' losses to tell whether they adapt at all.
        device: the device of the model. For a GPU the users are repeated, because batches would
            otherwise be too small.
    """
    found = data_folder()
    log = _movielens(found) if found else _synthetic()
    config = config or ModelConfig(
        features=FeatureConfig(
            user_features=USER_FEATURES, item_features=ITEM_FEATURES, use_item_id=False
        ),
        network=PreferenceConfig(wide=False, use_statistics=False),
        learner=MAMLConfig(
            num_steps=num_steps,
            inner_learning_rate=inner_learning_rate,
            learn_rates=False,
            support_prior=0.0,
            inner_objective="squared",
            outer_objective="squared",
        ),
    )
    num_items = log.items.num_rows
    item_id = pa.array(np.arange(num_items)).cast(pa.string())
    items = Items(
        item_id, np.arange(num_items, dtype=np.int32), np.full(num_items, schema.ALWAYS), log.items
    )
    profile = log.users.append_column(
        schema.USER_ID, pa.array(np.arange(log.users.num_rows)).cast(pa.string())
    )
    encoder = Encoder.fit(profile, item_id, log.items, log.value, config.features)
    value_range = (float(log.value.min()), float(log.value.max()))
    statistics = ItemStatistics.empty(num_items)
    where = torch.device(device)
    model = Model(config, None, encoder, items, statistics, "rating", value_range, where)
    params = model.learner.init_params(torch.Generator().manual_seed(0))
    model.params = {name: p.to(where) for name, p in params.items()}
    # A fresh last layer is nearly zero, and hides what lies below it.
    last = f"layer.{model.network.num_layers - 1}.weight"
    if last in model.params:
        model.params[last] = model.params[last] * 10
    tasks = _tasks(log, profile)
    if where.type != "cpu":
        tasks = tasks.take(np.arange(NUM_USERS_ON_GPU) % len(tasks))
    return MeluShape(source=log.source, tasks=tasks, model=model)


def data_folder() -> Path | None:
    """Return where MovieLens 1M is: under RECMETA_SHARED_DATA, else ../shared/data."""
    root = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data"))
    folder = root / "ml-1m"
    return folder if (folder / "interactions.parquet").exists() else None


def _movielens(folder: Path) -> _Log:
    columns = ["user_id", "item_id", "rating", "state"]
    rows = pq.read_table(folder / "interactions.parquet", columns=columns)
    rows = rows.filter(pc.equal(rows["state"].cast(pa.string()), "warm_state"))
    users = pq.read_table(folder / "users.parquet")
    items = pq.read_table(folder / "items.parquet")

    def numbers(name: str, known: pa.Table) -> npt.NDArray[np.int64]:
        found = pc.index_in(rows[name].combine_chunks(), known[name].combine_chunks())
        return np.asarray(found.to_numpy(), np.int64)

    def text(table: pa.Table, name: str) -> pa.ChunkedArray:
        return table[name].cast(pa.string())

    return _Log(
        source="ml-1m",
        users=pa.table(
            {
                "gender": text(users, "gender"),
                "age": text(users, "age_range"),
                "occupation": text(users, "occupation"),
                "zip_code": text(users, "zip_code"),
            }
        ),
        items=pa.table(
            {
                "rate": text(items, "x_rate"),
                "genres": items["x_genres"],
                "directors": items["x_directors"],
                "actors": items["x_actors"],
            }
        ),
        user=numbers("user_id", users),
        item=numbers("item_id", items),
        value=rows["rating"].to_numpy().astype(np.float32),
    )


def _synthetic() -> _Log:
    """Return rows with MovieLens 1M's sizes. Their values are noise, which takes the same time."""
    rng = np.random.default_rng(0)
    num_users, num_items = 2_700, 3_881
    lengths = np.clip(rng.gamma(3.2, 14.3, num_users), FEWEST, MOST).astype(np.int64)
    popularity = 1 / np.arange(1, num_items + 1) ** 0.5
    user = np.repeat(np.arange(num_users), lengths)
    # The items of the largest keys, user by user, are a draw without replacement (Gumbel's trick).
    keys_UI = np.log(popularity) + rng.gumbel(size=(num_users, num_items))
    order_UI = np.argpartition(-keys_UI, MOST, axis=1)[:, :MOST]
    place = positions_of(lengths)

    def words(name: str, size: int, num_values: int) -> pa.Array:
        drawn = rng.integers(0, num_values, size)
        return pa.array(np.char.add(name, drawn.astype(np.str_)))

    def lists(name: str, num_values: int, most: int) -> pa.Array:
        sizes = rng.integers(1, most + 1, num_items)
        offsets = offsets_of(sizes).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, words(name, int(offsets[-1]), num_values))

    return _Log(
        source="synthetic",
        users=pa.table(
            {
                name: words(name, num_users, size)
                for name, size in zip(USER_FEATURES, (2, 7, 21, 3_402), strict=True)
            }
        ),
        items=pa.table(
            {
                "rate": words("rate", num_items, 6),
                "genres": lists("genre", 25, 4),
                "directors": lists("director", 2_186, 2),
                "actors": lists("actor", 8_030, 4),
            }
        ),
        user=user,
        item=order_UI[user, place],
        value=rng.integers(1, 6, len(user)).astype(np.float32),
    )


def _tasks(log: _Log, profile: pa.Table) -> Tasks:
    """Return a task per user with few enough rows and enough of them, ten random ones as query."""
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(len(log.user)), log.user))
    user, item, value = log.user[order], log.item[order], log.value[order]
    count_U = np.bincount(user, minlength=profile.num_rows)
    keep_U = (count_U >= FEWEST) & (count_U <= MOST)
    kept = np.flatnonzero(keep_U)
    rows = keep_U[user]
    offsets = offsets_of(count_U[kept])
    everything = Ragged(
        offsets, item[rows].astype(np.int32), value[rows], np.zeros(rows.sum(), np.bool_)
    )
    is_query = everything.position < NUM_QUERY
    return Tasks(
        profile.take(pa.array(kept)),
        np.full(len(kept), schema.END_OF_TIME),
        np.zeros(len(kept), np.int32),
        np.full(len(kept), "warm"),
        everything.select(~is_query),
        everything.select(is_query),
    )
