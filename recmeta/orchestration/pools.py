"""Airflow's pools, defined without Airflow, for whoever creates them.

python -m recmeta.orchestration.pools > pools.json && airflow pools import pools.json
"""

import json
import sys

from recmeta.orchestration.shape import workspace_names

TABLES_POOL = "recmeta_tables"
"""One slot, so that only one task at a time changes a table of the workspace. Each named workspace
has its own pool, `recmeta_tables_NAME`."""
GPU_POOL = "recmeta_gpu"
"""As many slots as there are GPUs, or one if there is none."""
SCORING_POOL = "recmeta_scoring"
"""As many slots as shards of users that may be adapted to and scored at once."""


def tables_pool(workspace: str | None) -> str:
    """Return the pool of the tasks that change a workspace's tables."""
    return TABLES_POOL if workspace is None else f"{TABLES_POOL}_{workspace}"


def pools() -> dict[str, dict[str, object]]:
    """Return the pools that the DAGs name, as `airflow pools import` takes them."""
    slots = {
        **{
            tables_pool(name): (1, "who changes a table does so alone")
            for name in workspace_names()
        },
        GPU_POOL: (1, "one slot per GPU"),
        SCORING_POOL: (2, "shards of users that are adapted to and scored at once"),
    }
    return {
        name: {"slots": number, "description": why, "include_deferred": False}
        for name, (number, why) in slots.items()
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(pools(), indent=2) + "\n")
