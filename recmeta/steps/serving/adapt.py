"""new users' few interactions ──▶ user states: the champion adapts to each, shard by shard.

The files are read in blocks, and a part of the users at a time is in memory, however many there
are.
"""

import collections
import contextlib
import dataclasses
import datetime
import functools
from typing import Any

import numpy as np

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.reading.files import Inputs, how_read, source_id
from recmeta.manifest import Folders, Manifest, Step, run_once
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.progress import Progress, silent
from recmeta.registry.models import versions
from recmeta.registry.models.versions import Version
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import adapt_users
from recmeta.steps.parts import catalogue, given_users
from recmeta.steps.parts.given_users import GivenUsers
from recmeta.tasks.task_set import Tasks, write_tasks
from recmeta.training.device import choose_device
from recmeta.workspace import Sealed, Workspace, resumed, works

USERS_PER_SHARD = 2_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptOutputs:
    """What adapt leaves."""

    states: str
    """Folder of the users' states and of what they were adapted to, shard by shard."""
    num_shards: int
    model_version: str
    """The version of the model that was adapted."""


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
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest[AdaptOutputs]:
    """Adapt a model to new users.

    Args:
        new_users: their interactions, and in `users` their profiles, if there are any.
        version: of the registered model; None is the champion.
        feature_store: folder of a Feast repository, or a configuration in it. Its online store says
            what is known of the users; profiles are then of those only of whom it knows nothing.
        now: what times are in the future of. None: the clock.

    Returns:
        The manifest; its counts say what became of every row. A row with a user but no item names
        a user of whom nothing else is known.

    Raises:
        UserError: when there is no champion yet, a file does not fit its mapping, or a model that
            learned from ratings gets none.
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
        model = Model.load(versions.model_folder(workspace, version), torch_device)
        model, num_new_items = catalogue.with_new_items(model, items)
        if num_new_items:  # score must number the items as they are numbered here
            catalogue.write(folder, model)
        found = users()
        if found.num_good:
            _check_values(model, new_users, version)
        num_shards, counts = _adapt_parts(model, found, folder, progress)
        folder.seal()
        outputs = AdaptOutputs(
            states=f"states/{key}", num_shards=num_shards, model_version=version.version
        )
        return outputs, {
            **counts,
            "rows": found.num_rows,
            "bad_rows": found.num_bad,
            "new_items": num_new_items,
        }

    with contextlib.ExitStack() as until_done:

        @functools.cache
        def users() -> GivenUsers:
            read = given_users.read(new_users, files, feature_store, clock, progress)
            return until_done.enter_context(read)

        if feature_store is not None:  # what is online changes: the key depends on it
            inputs[schema.FEATURE_SERVICE] = users().online
        config = {"new_users": how_read(new_users)}
        return run_once(workspace, STEP, config=config, inputs=inputs, work=work)


def _check_values(model: Model, new_users: LogMapping, version: Version) -> None:
    """Refuse interactions without values where the model learned from ratings."""
    if model.objective == "rating" and new_users.value_col is None:
        raise UserError(
            f"version {version.version} of the model learned from ratings: say which column "
            f"of {new_users.path!r} holds the new users' (--value-col, or value_col in the "
            "mapping)."
        )


def _adapt_parts(
    model: Model, found: GivenUsers, folder: Sealed, progress: Progress
) -> tuple[int, collections.Counter[str]]:
    """Write the states of all users, part by part, and return the number of shards and what became
    of the rows."""
    scorer, num_shards = Scorer.of(model), 0
    counts: collections.Counter[str] = collections.Counter()
    for number, (rows, profiles) in enumerate(found.parts()):
        tasks, counts_here = tasks_for_new_users(model, rows, profiles)
        counts.update(dataclasses.asdict(counts_here))
        num_here = max(1, -(-len(tasks) // USERS_PER_SHARD))
        for place in range(num_here):
            _adapt_shard(scorer, tasks, place, folder, num_shards)
            num_shards += 1
            progress(STEP, number * num_here + place + 1, found.num_parts * num_here)
    return num_shards, counts


def _adapt_shard(scorer: Scorer, tasks: Tasks, place: int, folder: Sealed, number: int) -> None:
    """Write the states of a slice of users, and what they were adapted to, unless a run that was
    killed has done so.

    Args:
        place: of the slice among the tasks.
        number: of the shard among all.
    """
    name, of_tasks = f"shard-{number:05d}.safetensors", f"tasks-{number:05d}.arrow"
    if folder.has(name) and folder.has(of_tasks):
        return
    first = place * USERS_PER_SHARD
    some = tasks.take(np.arange(first, min(first + USERS_PER_SHARD, len(tasks))))
    write_tasks(folder, of_tasks, some)
    folder.write_bytes(name, adapt_users(scorer, some).to_bytes())
    folder.seal()


def profiles_for(model: Model, path: str, id_col: str) -> AttributeSource:
    """Return how to read a file of profiles whose columns are named as the model's features."""
    fields = model.encoder.user_fields
    columns = {f.name: Attribute(kind=f.kind) for f in fields if f.kind != "vector"}
    return AttributeSource(path=path, id_col=id_col, columns=columns)
