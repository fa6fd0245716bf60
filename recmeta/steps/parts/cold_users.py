"""tasks ──▶ new users: the support of the cold test users, as a file of new users would have it."""

import pyarrow as pa

from recmeta import schema
from recmeta.logs.mapping import LogMapping
from recmeta.manifest import Manifest
from recmeta.steps.serving.shard_new_users import INTERACTIONS, PROFILES, shard_mapping
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Workspace


def cold_users(workspace: Workspace, tasks: Manifest) -> LogMapping:
    """Write what is known of the cold test users, with their profiles, and return it as the file of
    new users that adapt reads.

    Args:
        tasks: the manifest of build-tasks.
    """
    name = f"new_users/{tasks.key}"
    folder = workspace / name
    task_set = TaskSet(workspace / tasks.outputs["tasks"])
    test, items = task_set.tasks("test"), task_set.items()
    support = test.support
    interactions = pa.table(
        {
            schema.USER_ID: test.profile[schema.USER_ID].combine_chunks().take(support.task),
            schema.ITEM_ID: items.item_id.take(pa.array(support.item)),
            schema.VALUE: pa.array(support.value, pa.float64()),
        }
    )
    for file, table in ((INTERACTIONS, interactions), (PROFILES, test.profile)):
        if not folder.exists(file):
            folder.write_parquet(file, table)
    return shard_mapping(workspace, name)
