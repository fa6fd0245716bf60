"""new users' few interactions ──▶ user states: the champion adapts to each, shard by shard.

The files are read in blocks, and only a part of the users is in memory at a time. Workers receive
users and return their states; files are written here.
"""

import collections
import contextlib
import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from recmeta import schema
from recmeta.engine import run as engines
from recmeta.engine.config import HERE, EngineConfig
from recmeta.errors import UserError, listed
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.reading.columns import column_names
from recmeta.logs.reading.files import Inputs, how_read, source_id
from recmeta.manifest import Manifest, run_once
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.progress import Progress, silent
from recmeta.records.step_definition import Folders, Step
from recmeta.registry.models import versions
from recmeta.registry.models.versions import Version
from recmeta.serving.new_user_tasks import (
    NewUserCounts,
    left_with_none,
    tasks_for_new_users,
    unknown_items,
    unused_rows,
)
from recmeta.serving.ranking import adapt_users
from recmeta.steps.parts import catalogue, given_users
from recmeta.steps.parts.given_users import GivenUsers
from recmeta.tasks.task_set import Tasks, write_tasks
from recmeta.training.device import choose_device
from recmeta.workspace import Folder, MemoryFolder, Sealed, Workspace, resumed, works

USERS_PER_SHARD = 2_000
MOST_NAMED = 2
"""The most items unknown to the model that are named."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptOutputs:
    """The outputs of adapt."""

    states: str
    """Folder of the users' states and of the interactions they were adapted to, shard by shard."""
    num_shards: int
    model_version: str
    """The version of the model that was adapted."""
    unused: str = ""
    """A sentence on which rows were not used, and why; empty if all were."""


STEP = Step(
    "adapt", AdaptOutputs, is_long=True, leaves=(Folders(lambda outputs: [outputs.states]),)
)


@works
def run(
    new_users: LogMapping,
    workspace: Workspace,
    *,
    version: Version | None = None,
    device: str = "auto",
    feature_store: str | None = None,
    max_unknown_share: float | None = None,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
    engine: EngineConfig = HERE,
) -> Manifest[AdaptOutputs]:
    """Adapt a model to new users.

    Args:
        new_users: their interactions, and in `users` their profiles, if there are any.
        version: of the registered model; None is the champion.
        feature_store: folder of a Feast repository, or a configuration in it. Profiles then come
            from its online store; given profiles count only for users whom the store does not know.
        max_unknown_share: the largest share of the interactions that may be of items which the
            model does not know. If None, they count towards `new_users.max_bad_share`, like all
            unusable rows.
        now: times more than a day after it are in the future. If None, the current time.
        engine: runs the units. It is not part of the step's key, since the states are the same.

    Returns:
        The manifest; its counts say what happened to every row. A row with a user but no item names
        a user without interactions.

    Raises:
        UserError: if there is no champion yet, a file does not fit its mapping, a model that
            learned from ratings gets none, or too many of the interactions cannot be used.
    """
    version = version or versions.in_use(workspace)
    files = Inputs.of(new_users)
    clock = now or datetime.datetime.now(datetime.UTC)
    torch_device = choose_device(device)
    items = catalogue.items_table(workspace)
    inputs: dict[str, Any] = {
        "model": version.model_key or version.version,
        "new_users": source_id(new_users, files),
        schema.ITEMS.name: None if items is None else items.version(),
    }

    def work(key: str) -> tuple[AdaptOutputs, dict[str, int]]:
        folder = resumed(workspace / "states" / key)
        saved = versions.model_folder(workspace, version)
        model = Model.load(saved, torch_device)
        model, num_new_items = catalogue.with_new_items(model, items)
        if num_new_items:  # score must number the items as they are numbered here
            catalogue.write(folder, model)
        found = users()
        if found.num_good:
            _check_values(model, new_users, version)
        here = ShardAdapter(model)
        make: Callable[[], ShardAdapter] = lambda: here  # noqa: E731
        if not engine.is_here:
            new = MemoryFolder.copy_of(folder, catalogue.FILES if num_new_items else ())
            make = functools.partial(
                ShardAdapter.loaded, catalogue.copied(saved), new, torch_device
            )
        num_shards, unused, counts = _adapt_parts(model, make, engine, found, folder, progress)
        check(unused, counts)
        folder.seal()
        outputs = AdaptOutputs(
            states=f"states/{key}",
            num_shards=num_shards,
            model_version=version.version,
            unused=unused,
        )
        return outputs, counts | {"rows": found.num_rows, "new_items": num_new_items}

    def check(unused: str, counts: Mapping[str, int]) -> None:
        _refuse_unused(new_users, max_unknown_share, unused, counts)

    with contextlib.ExitStack() as until_done:

        @functools.cache
        def users() -> GivenUsers:
            read = given_users.read(new_users, files, feature_store, clock, progress)
            return until_done.enter_context(read)

        if feature_store is not None:  # what is online changes: the key depends on it
            inputs[schema.FEATURE_SERVICE] = users().online
        config = {"new_users": how_read(new_users)}
        done = run_once(workspace, STEP, config=config, inputs=inputs, work=work)
    check(done.outputs.unused, done.counts)  # the share may have been another one then
    return done


def remark(adapted: Manifest[AdaptOutputs]) -> str:
    """Return sentences on which rows were not used, and which users are left with none; empty if
    all rows of all users were used."""
    if not adapted.outputs.unused:
        if adapted.counts["used"] or not adapted.counts["users"]:
            return ""
        return "No interaction of these users is known, so they get the list of a user without any."
    named = {f.name: adapted.counts[f.name] for f in dataclasses.fields(NewUserCounts)}
    return f"{adapted.outputs.unused} {left_with_none(NewUserCounts(**named))}".strip()


def _check_values(model: Model, new_users: LogMapping, version: Version) -> None:
    """Refuse interactions without values if the model learned from ratings."""
    if model.objective == "rating" and new_users.value_col is None:
        raise UserError(
            f"version {version.version} of the model learned from ratings: say which column "
            f"of {new_users.path!r} holds the new users' (--value-col, or value_col in the "
            f"mapping). It has: {listed(column_names(new_users))}."
        )


def _refuse_unused(
    new_users: LogMapping, max_unknown_share: float | None, unused: str, counts: Mapping[str, int]
) -> None:
    """Refuse new users if too many of their interactions cannot be used."""
    if "interactions" not in counts:  # of an earlier version, which did not count them
        return
    unknown, wrong = counts["unknown_items"], counts["bad_values"] + counts["bad_rows"]
    limits = [("max_bad_share", new_users.max_bad_share, unknown + wrong)]
    if max_unknown_share is not None:
        limits = [
            ("max_bad_share", new_users.max_bad_share, wrong),
            ("max_unknown_share", max_unknown_share, unknown),
        ]
    for name, share, number in limits:
        if number > share * counts["interactions"]:
            raise UserError(
                f"{new_users.path!r}: {unused} The unused are more than {name} "
                f"(--{name.replace('_', '-')}) allows ({share:.1%}), so the model was adapted to "
                "nobody: fix the file or how it is read, or raise the limit."
            )


class ShardAdapter:
    """The object that a worker holds, which adapts its model to some users."""

    def __init__(self, model: Model) -> None:
        self.scorer = Scorer.of(model)

    @classmethod
    def loaded(cls, saved: Folder, folder: Folder, device: torch.device) -> "ShardAdapter":
        """Return it with a saved model.

        Args:
            folder: with the catalogue to adapt on, if it is not the model's.
        """
        return cls(catalogue.as_written(Model.load(saved, device), folder))

    def __call__(self, tasks: Tasks) -> bytes:
        """Return the users' states."""
        return adapt_users(self.scorer, tasks).to_bytes()


def _adapt_parts(
    model: Model,
    make: Callable[[], ShardAdapter],
    engine: EngineConfig,
    found: GivenUsers,
    folder: Sealed,
    progress: Progress,
) -> tuple[int, str, dict[str, int]]:
    """Write the states of all users, part by part, and the interactions they were adapted to,
    except those that a killed run has written.

    Returns:
        The number of shards, a sentence on the rows that are not used, and the counts of all rows.
    """
    total: collections.Counter[str] = collections.Counter()
    unknown: list[str] = []
    handed_out: collections.deque[tuple[int, Tasks, int, int]] = collections.deque()
    num_shards = 0

    def shards() -> Iterator[Tasks]:
        nonlocal num_shards
        for number, (rows, profiles) in enumerate(found.parts()):
            tasks, counts_here = tasks_for_new_users(model, rows, profiles)
            total.update(dataclasses.asdict(counts_here))
            if counts_here.unknown_items and not unknown:
                unknown.extend(unknown_items(model, rows, MOST_NAMED))
            num_here = max(1, -(-len(tasks) // USERS_PER_SHARD))
            for place in range(num_here):
                shard, num_shards = num_shards, num_shards + 1
                done = number * num_here + place + 1, found.num_parts * num_here
                if all(folder.has(name) for name in shard_files(shard)):
                    progress(STEP, *done)
                    continue
                first = place * USERS_PER_SHARD
                last = min(first + USERS_PER_SHARD, len(tasks))
                some = tasks.take(np.arange(first, last))
                handed_out.append((shard, some, *done))
                yield some

    for states in engines.run(make, shards(), engine):
        shard, tasks, *done = handed_out.popleft()
        of_users, of_tasks = shard_files(shard)
        write_tasks(folder, of_tasks, tasks)
        folder.write_bytes(of_users, states)
        folder.seal()
        progress(STEP, done[0], done[1])
    broken = {f"that cannot be read ({fault})": number for fault, number in found.faults.items()}
    counts = NewUserCounts(**total)
    num_bad = sum(broken.values())
    given = {"interactions": counts.rows + num_bad, "bad_rows": num_bad}
    unused = unused_rows(model, counts, broken, unknown)
    if unused and found.advice:
        unused = f"{unused} {found.advice}"
    return num_shards, unused, {**total, **given}


def shard_files(shard: int) -> tuple[str, str]:
    """Return the files of a shard: of the users' states, and of what they were adapted to."""
    return f"shard-{shard:05d}.safetensors", f"tasks-{shard:05d}.arrow"


def profiles_for(model: Model, path: str, id_col: str) -> AttributeSource:
    """Return how to read a file of profiles whose columns are named as the model's features."""
    fields = model.encoder.user_fields
    columns = {f.name: Attribute(kind=f.kind) for f in fields if f.kind != "vector"}
    return AttributeSource(path=path, id_col=id_col, columns=columns)
