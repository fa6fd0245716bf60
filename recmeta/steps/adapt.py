"""new users' few interactions ──▶ user states: the champion adapts to each, shard by shard."""

import dataclasses
import datetime
from typing import Any

import numpy as np
import polars as pl

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
from recmeta.registry.tracking import tracking_uri
from recmeta.registry.versions import Version
from recmeta.serving.new_users import tasks_for_new_users
from recmeta.serving.ranking import adapt_users
from recmeta.steps.meta_train import choose_device
from recmeta.workspace import Workspace

STEP = "adapt"
USERS_PER_SHARD = 2_000


def run(
    new_users: LogMapping,
    workspace: Workspace,
    *,
    version: Version | None = None,
    device: str = "auto",
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Adapt a model to new users.

    Args:
        new_users: their interactions, and in `users` their profiles, if there are any.
        version: of the registered model; None is the champion.
        now: what times are in the future of. None: the clock.

    Returns:
        The manifest; its counts say what became of every row. A row with a user but no item names
        a user of whom nothing else is known.

    Raises:
        UserError: when there is no champion yet, a file does not fit its mapping, or a model that
            learned from ratings gets none.
    """
    version = version or versions.champion(workspace)
    if version is None:
        raise UserError(
            f"{tracking_uri(workspace)} has no champion to adapt with: run the pipeline until the "
            "gate promotes a model (`recmeta run`), or name one with --model-version."
        )
    inputs = Inputs.of(new_users)
    source = source_id(new_users, inputs)
    clock = now or datetime.datetime.now(datetime.UTC)
    torch_device = choose_device(device)

    def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        folder = workspace / "states" / key
        model = Model.load(versions.model_folder(workspace, version), torch_device)
        good, bad = checked.read_log(new_users, inputs.log, clock, progress)
        if model.objective == "rating" and new_users.value_col is None and good.height:
            raise UserError(
                f"version {version.version} of the model learned from ratings: say which column "
                f"of {new_users.path!r} holds the new users' (--value-col, or value_col in the "
                "mapping)."
            )
        named = checked.named_users(bad)
        profiles = None
        if new_users.users is not None:
            profiles = read_attributes(new_users.users, inputs.users, schema.USER_ID)[0]
        rows = pl.concat([good, named], how="diagonal")
        tasks, counts = tasks_for_new_users(
            model,
            schema.with_plain_types(rows.drop(schema.FILE, schema.LINE, schema.RAW).to_arrow()),
            None if profiles is None else schema.with_plain_types(profiles.to_arrow()),
        )
        num_shards = max(1, -(-len(tasks) // USERS_PER_SHARD))
        for index in range(num_shards):
            name = f"shard-{index:05d}.safetensors"
            start = index * USERS_PER_SHARD
            chosen = np.arange(start, min(start + USERS_PER_SHARD, len(tasks)))
            if not folder.exists(name):  # a run that was killed goes on here
                folder.write_bytes(name, adapt_users(model, tasks.take(chosen)).to_bytes())
            progress(STEP, index + 1, num_shards)
        outputs = {
            "states": f"states/{key}",
            "num_shards": num_shards,
            "model_version": version.version,
        }
        bad_rows = bad.height - named.height
        return outputs, {
            **dataclasses.asdict(counts),
            "rows": good.height + bad.height,
            "bad_rows": bad_rows,
        }

    return run_once(
        workspace,
        STEP,
        config={"new_users": how_read(new_users)},
        inputs={"model": version.model_key or version.version, "new_users": source},
        work=work,
    )


def profiles_for(model: Model, path: str, id_col: str) -> AttributeSource:
    """Return how to read a file of profiles whose columns are named as the model's features."""
    columns = {f.name: Attribute(kind=f.kind) for f in model.encoder.user_fields}
    return AttributeSource(path=path, id_col=id_col, columns=columns)
