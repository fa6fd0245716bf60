"""Assets and params that several DAGs speak of."""

from airflow.sdk import Asset, Param

GROUP = "recmeta"
INTERACTIONS = Asset("interactions", group=GROUP)
TASKS = Asset("tasks", group=GROUP)
NEW_USERS = Asset("new_users", group=GROUP)
CHAMPION_MODEL = Asset("champion_model", group=GROUP)
RETRAINING_REQUEST = Asset("retraining_request", group=GROUP)

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
