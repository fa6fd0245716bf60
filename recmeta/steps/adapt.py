"""new users' few interactions ──▶ user states: the champion adapts to each, shard by shard."""

import dataclasses
import datetime
import functools
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs import checked
from recmeta.logs.attributes import read_attributes
from recmeta.logs.files import Inputs, how_read, source_id
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.manifest import Manifest, run_once
from recmeta.metalearn.model import Model
from recmeta.progress import Progress, silent
from recmeta.registry import versions
from recmeta.registry.versions import Version
from recmeta.serving.new_users import tasks_for_new_users
from recmeta.serving.ranking import adapt_users
from recmeta.steps import catalogue
from recmeta.steps.meta_train import choose_device
from recmeta.tasks.task_set import write_tasks
from recmeta.workspace import Workspace

STEP = "adapt"
USERS_PER_SHARD = 2_000


def run(
    new_users: LogMapping,
    workspace: Workspace,
    *,
    version: Version | None = None,
    device: str = "auto",
    feature_store: str | None = None,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest:
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
    users = functools.cache(lambda: read(new_users, files, feature_store, clock, progress))
    inputs: dict[str, Any] = {
        "model": version.model_key or version.version,
        "new_users": source_id(new_users, files),
        schema.ITEMS.name: catalogue.version(workspace),
    }
    if feature_store is not None:  # what is online changes, so it is read before the key is known
        inputs[schema.FEATURE_SERVICE] = users().online

    def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        folder = workspace / "states" / key
        model = Model.load(versions.model_folder(workspace, version), torch_device)
        model, num_new_items = catalogue.with_new_items(model, workspace)
        if num_new_items:  # score must number the items as they are numbered here
            catalogue.write(folder, model)
        found = users()
        if model.objective == "rating" and new_users.value_col is None and found.num_good:
            raise UserError(
                f"version {version.version} of the model learned from ratings: say which column "
                f"of {new_users.path!r} holds the new users' (--value-col, or value_col in the "
                "mapping)."
            )
        tasks, counts = tasks_for_new_users(model, found.rows, found.profiles)
        num_shards = max(1, -(-len(tasks) // USERS_PER_SHARD))
        for index in range(num_shards):
            name = f"shard-{index:05d}.safetensors"
            start = index * USERS_PER_SHARD
            chosen = np.arange(start, min(start + USERS_PER_SHARD, len(tasks)))
            if not folder.exists(name):  # a run that was killed goes on here
                some = tasks.take(chosen)
                write_tasks(folder, f"tasks-{index:05d}.arrow", some)
                folder.write_bytes(name, adapt_users(model, some).to_bytes())
            progress(STEP, index + 1, num_shards)
        outputs = {
            "states": f"states/{key}",
            "num_shards": num_shards,
            "model_version": version.version,
        }
        return outputs, {
            **dataclasses.asdict(counts),
            "rows": found.num_rows,
            "bad_rows": found.num_bad,
            "new_items": num_new_items,
        }

    return run_once(
        workspace,
        STEP,
        config={"new_users": how_read(new_users)},
        inputs=inputs,
        work=work,
    )


def profiles_for(model: Model, path: str, id_col: str) -> AttributeSource:
    """Return how to read a file of profiles whose columns are named as the model's features."""
    fields = model.encoder.user_fields
    columns = {f.name: Attribute(kind=f.kind) for f in fields if f.kind != "vector"}
    return AttributeSource(path=path, id_col=id_col, columns=columns)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewUsers:
    """What the files, and the online store if there is one, say of the new users."""

    rows: pa.Table
    """Interactions; one without an item names a user of whom nothing else is known."""
    profiles: pa.Table | None
    num_rows: int
    """Of the file."""
    num_good: int
    num_bad: int
    online: str | None
    """Content id of what the online store said."""


def read(
    new_users: LogMapping,
    files: Inputs,
    feature_store: str | None,
    clock: datetime.datetime,
    progress: Progress = silent,
) -> NewUsers:
    """Read the new users' files, and what is online of them, without adapting to them yet.

    Args:
        files: what is there of `new_users`.
        feature_store: as of `run`.
        clock: what times are in the future of.
    """
    good, bad = checked.read_log(new_users, files.log, clock, progress)
    named, num_bad = checked.named_users(bad)
    rows = pl.concat([good, named], how="diagonal")
    profiles = None
    if new_users.users is not None:
        profiles = read_attributes(new_users.users, files.users, schema.USER_ID)[0]
    online = None
    if feature_store is not None:
        profiles, online = _with_online(feature_store, rows, profiles)
    return NewUsers(
        rows=schema.with_plain_types(rows.drop(schema.FILE, schema.LINE, schema.RAW).to_arrow()),
        profiles=None if profiles is None else schema.with_plain_types(profiles.to_arrow()),
        num_rows=good.height + bad.height,
        num_good=good.height,
        num_bad=num_bad,
        online=online,
    )


def _with_online(
    feature_store: str, rows: pl.DataFrame, profiles: pl.DataFrame | None
) -> tuple[pl.DataFrame, str]:
    """Return the users' online profiles, the given ones of users not online, and the content id."""
    from recmeta.features.feast_online import content_id, online_profiles
    from recmeta.features.feast_repository import open_store

    given = rows.select(schema.USER_ID).clear() if profiles is None else profiles
    everyone = pl.concat([rows[schema.USER_ID], given[schema.USER_ID]]).drop_nulls().unique().sort()
    ids = everyone.to_arrow().cast(pa.string())
    table = online_profiles(open_store(feature_store), ids)  # once for all users
    known = pl.DataFrame(table)
    others = given.join(known, on=schema.USER_ID, how="anti")
    return pl.concat([known, others], how="diagonal"), content_id(table)
