"""user states ──▶ recommendations: the whole catalogue ranked for each user, published at once.

Each shard's lists wait as a file in `lists/KEY/`. When all are complete, one commit makes them the
run's rows, and the files are deleted. Only one shard for each worker is in memory at a time.
Workers receive their data and return lists; files and tables are written here.
"""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from deltalake import write_deltalake

from recmeta import schema
from recmeta.config import fingerprint, to_dict
from recmeta.engine import run as engines
from recmeta.engine.config import HERE, EngineConfig
from recmeta.evaluation.measuring.exposure import exposure
from recmeta.logs import tables
from recmeta.logs.whole import TableVersions
from recmeta.manifest import Manifest, run_once
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.progress import Progress, silent
from recmeta.records.step_definition import Step
from recmeta.registry.models import versions
from recmeta.serving.lists import LISTED_BY, ListMaker, relative_likelihoods
from recmeta.serving.ranking import AdaptedUsers, ScoringConfig
from recmeta.serving.rules import MOST_NAMED, ItemFacts, remark_on_unmatched, unmatched
from recmeta.steps.parts import catalogue
from recmeta.steps.parts.faiss_index import FaissIndex
from recmeta.steps.parts.item_facts import item_facts
from recmeta.steps.serving.adapt import AdaptOutputs
from recmeta.tasks.task_set import Tasks, read_tasks
from recmeta.training.device import choose_device
from recmeta.workspace import Folder, MemoryFolder, Sealed, Workspace, resumed, sealed

USERS_FILE, TASKS_FILE = "users.safetensors", "tasks.arrow"
OF_RUN = (schema.RUN, schema.MODEL_VERSION, schema.SCORED_AT)
"""Columns that are the same in all rows of a run."""
OF_LIST = pa.schema([f for f in schema.RECOMMENDATIONS.columns if f.name not in OF_RUN])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreOutputs:
    """The outputs of score."""

    recommendations: str
    """Where the table with the lists is, from the workspace."""
    run: str
    """The run whose rows of the table they are."""
    model_version: str
    """The version of the model that made them."""
    table_version: int
    """The version of the table that has these lists."""
    lists_coverage: float | None = None
    """Measures of all lists together: see `recmeta.evaluation.measuring.exposure`. None if there
    are no lists."""
    lists_gini: float | None = None
    lists_popularity: float | None = None
    retrieval_recall: float | None = None
    """The recall of the lists made with an index; None without one, or with too few users to
    measure it."""
    retrieval_used: bool | None = None
    """Whether the index finds enough to be used; None without one."""
    partly_certified: bool = False
    """Whether users for whom the model's lists are not certified got popular items."""
    unmatched_denied: tuple[str, ...] = ()
    """The first of the items that the rule `deny` names and the catalogue does not have; the counts
    say how many there are."""
    unmatched_allowed: tuple[str, ...] = ()
    """The same of `allow`."""


STEP = Step(
    "score",
    ScoreOutputs,
    is_long=True,
    leaves=(TableVersions(lambda outputs: {schema.RECOMMENDATIONS: outputs.table_version}),),
)


def run(
    config: ScoringConfig,
    workspace: Workspace,
    adapted: Manifest[AdaptOutputs],
    *,
    device: str = "auto",
    now: datetime.datetime | None = None,
    progress: Progress = silent,
    engine: EngineConfig = HERE,
) -> Manifest[ScoreOutputs]:
    """Rank the catalogue for adapted users and publish the lists in the `recommendations` table.

    A run's lists appear in one commit; doing the run again replaces them and nothing else. A run
    that was killed continues with the shard after the last one that it finished.

    Args:
        adapted: the manifest of adapt.
        now: written as `scored_at`. If None, the current time.
        engine: runs the units. It is not part of the step's key, since the lists are the same.
    """
    torch_device = choose_device(device)
    clock = now or datetime.datetime.now(datetime.UTC)
    facts = item_facts(config.rules, workspace, clock)

    def work(key: str) -> tuple[ScoreOutputs, dict[str, int]]:
        number = adapted.outputs.model_version
        states = sealed(workspace / adapted.outputs.states)
        staged = resumed(workspace / "lists" / key)
        names = [f"shard-{n:05d}.parquet" for n in range(adapted.outputs.num_shards)]
        saved = versions.model_folder(workspace, versions.get(workspace, number))
        ranks = functools.partial(
            ShardRanker,
            first=_shard_files(states, 0) if config.retrieval is not None else None,
            config=config,
            facts=facts,
            device=torch_device,
        )
        here = ranks(saved=saved, states=states)
        maker = here.maker
        items = maker.model.catalogue.items
        denied, allowed = (unmatched(items, ids or ()) for ids in (facts.denied, facts.allowed))
        make: Callable[[], ShardRanker] = lambda: here  # noqa: E731
        if not engine.is_here:
            make = functools.partial(
                ranks,
                saved=catalogue.copied(saved),
                states=MemoryFolder.copy_of(states, catalogue.FILES),
            )
        missing = [index for index, name in enumerate(names) if not _is_done(staged, name)]
        shards = (_shard_files(states, index) for index in missing)
        for index, lists in zip(missing, engines.run(make, shards, engine), strict=True):
            staged.write_parquet(names[index], lists)
            staged.seal()
            progress(STEP, index + 1, len(names))
        progress(STEP, len(names), len(names))
        of_run = {schema.RUN: key, schema.MODEL_VERSION: number, schema.SCORED_AT: clock}
        table_version, tally = _publish(workspace, staged, names, of_run, maker.model)
        staged.filesystem.delete_dir(staged.path)
        outputs = ScoreOutputs(
            recommendations=schema.RECOMMENDATIONS.path,
            run=key,
            model_version=number,
            table_version=table_version,
            **tally.metrics(),
            retrieval_recall=here.recall,
            retrieval_used=None if config.retrieval is None else maker.uses_index,
            partly_certified=maker.certificate is not None,
            unmatched_denied=tuple(denied[:MOST_NAMED]),
            unmatched_allowed=tuple(allowed[:MOST_NAMED]),
        )
        unmatched_counts = {
            "num_unmatched_denied": len(denied),
            "num_unmatched_allowed": len(allowed),
        }
        return outputs, tally.counts | {n: count for n, count in unmatched_counts.items() if count}

    inputs: dict[str, Any] = {"adapted": adapted.key}
    if facts != ItemFacts():  # the files may say something else under the same name
        inputs["items"] = fingerprint(dataclasses.asdict(facts))
    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def remarks(adapted: Manifest[AdaptOutputs], scored: Manifest[ScoreOutputs]) -> list[str]:
    """Return sentences on which rules had no effect, and whether nobody gets a list."""
    said = []
    for rule, count, named in (
        ("deny", "num_unmatched_denied", scored.outputs.unmatched_denied),
        ("allow", "num_unmatched_allowed", scored.outputs.unmatched_allowed),
    ):
        if named:
            said.append(remark_on_unmatched(rule, scored.counts[count], named))
    if scored.outputs.partly_certified and scored.counts["popular"]:
        said.append(
            f"{scored.counts['popular']:,} places have popular items: for users with so few "
            "interactions the model's lists are not certified to be as good (the report says for "
            "whom; never_worse = false in [score] gives everybody the model's)."
        )
    if adapted.counts["users"] and not scored.counts["rows_written"]:
        said.append("The rules leave no eligible items, so nobody has a list.")
    return said


def _is_done(staged: Sealed, name: str) -> bool:
    """Return whether the lists of a shard are there, with the columns of now: a run that was killed
    may have begun under an earlier version."""
    if not staged.has(name):
        return False
    return bool(pq.read_schema(pa.BufferReader(staged.read_bytes(name))).names == OF_LIST.names)


def _shard_files(states: Folder, index: int) -> MemoryFolder:
    """Return the users of a shard and the interactions they were adapted to, as files."""
    found = MemoryFolder()
    found.write_bytes(USERS_FILE, states.read_bytes(f"shard-{index:05d}.safetensors"))
    found.write_bytes(TASKS_FILE, states.read_bytes(f"tasks-{index:05d}.arrow"))
    return found


class ShardRanker:
    """The object that a worker holds, which makes the lists of a shard, a row per user and rank."""

    def __init__(
        self,
        saved: Folder,
        states: Folder,
        first: MemoryFolder | None,
        config: ScoringConfig,
        facts: ItemFacts,
        device: torch.device,
    ) -> None:
        """
        Args:
            saved: the model.
            states: with the catalogue that the users were adapted on, if it is not the model's.
            first: the shard from which an index of candidates is made; if None, there is no index.
        """
        self.device = device
        model = catalogue.as_written(Model.load(saved, device), states)
        self.maker = ListMaker(Scorer.of(model), config, facts)
        self.recall = None
        if first is not None:
            self.recall = self.maker.use_index(FaissIndex, *self._read(first))

    def __call__(self, shard: MemoryFolder) -> pa.Table:
        """Return the lists of a shard."""
        return lists_of(self.maker, *self._read(shard))

    def _read(self, shard: MemoryFolder) -> tuple[AdaptedUsers, Tasks]:
        users = AdaptedUsers.from_bytes(shard.read_bytes(USERS_FILE))
        return users.to(self.device), read_tasks(shard, TASKS_FILE)


def lists_of(maker: ListMaker, users: AdaptedUsers, tasks: Tasks) -> pa.Table:
    """Return the lists of users, a row per user and rank."""
    size = maker.config.user_batch
    item_id = maker.model.catalogue.items.item_id
    parts = []
    for number, some in enumerate(users.batches(size)):
        first = number * size
        chosen = np.arange(first, first + len(some.user_id))
        lists = maker.make(some, tasks.take(chosen))
        user, place = np.nonzero(lists.item_Bk >= 0)
        because = lists.because_Bk[user, place]
        columns = {
            schema.USER_ID: pa.array(some.user_id, pa.string()).take(pa.array(user)),
            schema.RANK: pa.array(place.astype(np.int32) + 1),
            schema.ITEM_ID: item_id.take(pa.array(lists.item_Bk[user, place])),
            schema.SCORE: pa.array(lists.score_Bk[user, place], pa.float32()),
            schema.UNCERTAINTY: pa.array(
                lists.uncertainty_Bk[user, place], pa.float32(), from_pandas=True
            ),
            schema.BECAUSE_ITEM: item_id.take(pa.array(because, mask=because < 0)),
            schema.LISTED_BY: pa.array(LISTED_BY).take(pa.array(lists.listed_by_Bk[user, place])),
            schema.PROPENSITY: pa.array(lists.propensity_Bk[user, place], pa.float32()),
            schema.RELATIVE_LIKELIHOOD: pa.array(relative_likelihoods(lists.worth_Bk)[user, place]),
        }
        parts.append(pa.table([columns[f.name] for f in OF_LIST], schema=OF_LIST))
    return pa.concat_tables([OF_LIST.empty_table(), *parts])


class _Tally:
    """How many users and rows were published, and how often each item of a catalogue is in a
    list."""

    def __init__(self, model: Model) -> None:
        self.counts = {"users": 0, "rows_written": 0, "popular": 0}
        self._item_id = model.catalogue.items.item_id
        self._num_users_I = model.catalogue.statistics.num_users[-1].astype(np.int64)
        self._listed_I = np.zeros(len(self._num_users_I), np.int64)

    def add(self, lists: pa.Table) -> None:
        """Count the lists of a shard."""
        is_popular = pc.equal(lists[schema.LISTED_BY], LISTED_BY[1])
        self.counts["users"] += pc.sum(pc.equal(lists[schema.RANK], 1)).as_py() or 0
        self.counts["rows_written"] += len(lists)
        self.counts["popular"] += pc.sum(is_popular).as_py() or 0
        is_explored = pc.equal(lists[schema.LISTED_BY], LISTED_BY[2])
        if explored := pc.sum(is_explored).as_py():
            self.counts["explored"] = self.counts.get("explored", 0) + explored
        number = pc.index_in(lists[schema.ITEM_ID], self._item_id).to_numpy()
        self._listed_I += np.bincount(number, minlength=len(self._listed_I))

    def metrics(self) -> dict[str, float]:
        """Return `lists_coverage`, `lists_gini` and `lists_popularity`; none without lists."""
        found = dataclasses.asdict(exposure(self._listed_I, self._num_users_I))
        return {f"lists_{name}": value for name, value in found.items() if np.isfinite(value)}


def _publish(
    workspace: Workspace, staged: Folder, names: list[str], of_run: dict[str, Any], model: Model
) -> tuple[int, _Tally]:
    """Make the shards' lists the run's rows of the table, in one commit.

    Args:
        names: of the shards' files.
        of_run: the values of the columns OF_RUN.
        model: which made the lists.

    Returns:
        The table's version, and the counts of the lists.
    """
    tables.create(workspace, schema.RECOMMENDATIONS)
    columns = schema.RECOMMENDATIONS.columns

    def change() -> tuple[int, _Tally]:
        tally = _Tally(model)
        delta = tables.open_table(workspace, schema.RECOMMENDATIONS)
        write_deltalake(
            delta,
            pa.RecordBatchReader.from_batches(columns, _rows(staged, names, of_run, tally)),
            mode="overwrite",
            predicate=f"{schema.RUN} = '{of_run[schema.RUN]}'",
        )
        return int(delta.version()), tally

    # Runs of other shards may be committed meanwhile: nothing of theirs is replaced.
    return tables.redo(workspace, change)


def _rows(
    staged: Folder, names: list[str], of_run: dict[str, Any], tally: _Tally
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table, shard by shard, and count them."""
    columns = schema.RECOMMENDATIONS.columns
    for name in names:
        lists = staged.read_parquet(name)
        tally.add(lists)
        same = {
            column: pa.repeat(pa.scalar(value, columns.field(column).type), len(lists))
            for column, value in of_run.items()
        }
        filled = [same[f.name] if f.name in same else lists[f.name] for f in columns]
        yield from pa.table(filled, schema=columns).to_batches()
