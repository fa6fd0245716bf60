"""The names of a workspace's DAGs, and the assets and params that several of them share.

Several workspaces may share one Airflow: `RECMETA_WORKSPACES` names them, and the name is put
before each DAG's id and each asset's name: `shop.build_tasks`, `shop.tasks`.
"""

import dataclasses

from airflow.sdk import Asset, Param

from recmeta.orchestration.pools import tables_pool
from recmeta.orchestration.shape import workspace_names

GROUP = "recmeta"
SEPARATOR = "."
"""Separates a workspace's name from a DAG's; no DAG's own name has it."""


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of one workspace."""

    workspace: str | None = None
    """None if it is the only workspace, and has no name."""

    def of(self, name: str) -> str:
        """Return a DAG's id, or an asset's name."""
        return name if self.workspace is None else f"{self.workspace}{SEPARATOR}{name}"

    @property
    def tags(self) -> list[str]:
        """The tags by which DAGs are found on Airflow's page."""
        return ["recmeta", *([] if self.workspace is None else [self.workspace])]

    @property
    def tables_pool(self) -> str:
        """The pool of tasks that change a table."""
        return tables_pool(self.workspace)

    @property
    def interactions(self) -> Asset:
        """A day's log was ingested."""
        return self._asset("interactions")

    @property
    def tasks(self) -> Asset:
        """A task set was built."""
        return self._asset("tasks")

    @property
    def new_users(self) -> Asset:
        """A day brought somebody new."""
        return self._asset("new_users")

    @property
    def champion_model(self) -> Asset:
        """A model was promoted."""
        return self._asset("champion_model")

    @property
    def retraining_request(self) -> Asset:
        """Something drifts, or no model was trained for a long time."""
        return self._asset("retraining_request")

    def _asset(self, name: str) -> Asset:
        return Asset(self.of(name), group=GROUP)


ALL = [Names(name) for name in workspace_names()]
"""The names of the workspaces for which this Airflow has DAGs."""


def workspace_of(dag_id: str) -> str | None:
    """Return the name of a DAG's workspace; None for the workspace without a name."""
    return dag_id.rpartition(SEPARATOR)[0] or None


DATE_PARAM = Param(
    None,
    type=["null", "string"],
    format="date",
    title="Day",
    description="The day to work on (UTC), as 2026-01-31. Empty: the run's partition; without one, "
    "the day that is due.",
)
MODEL_PARAM = Param(
    None,
    type=["null", "string"],
    pattern="^[0-9]+$",
    title="Model version",
    description="A version of the registered model. Empty: the champion.",
)
