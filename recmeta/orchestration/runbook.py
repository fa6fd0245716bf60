"""What to do when a task fails for good, a gate refuses or a run is late: a line for each."""

from collections.abc import Mapping

REFUSED = (
    "Nothing need be done: the champion stays. Where refusals go on for days while the logs grow, "
    "read the report that the reasons come from (`recmeta report`), look at `drift` in the DAG "
    "maintenance, and try another learner (`recmeta tune`)."
)
LATE = (
    "Open the run: a task that waits or runs is why. `wait-for-log`: the log has not come. Queued: "
    "another run holds the pool, or no worker is free. Running for long: more rows than usual; "
    "RECMETA_TIME_LIMITS says when it is ended."
)
FAILED: Mapping[str, str] = {
    "choose-day": "Set the mapping's path, or name a day with the param Day.",
    "wait-for-log": "Ask whoever writes the log; clear the task when the day's log is there.",
    "ingest": "Fix the log or the mapping, then clear the task.",
    "check-data-quality": "Look at the day's rows in the table quarantine. If the day is right, "
    "trigger the DAG with that day and wider limits. If it is wrong, fix the log and clear "
    "`ingest`.",
    "materialise-features": "With a feature store: see whether it answers, then clear the task.",
    "build-tasks": "Run `recmeta doctor --verify` on the workspace, then clear the task.",
    "find-new-users": "Run `recmeta doctor --verify` on the workspace, then clear the task.",
    "choose-tasks": "Trigger build_tasks: there is no task set to train on.",
    "is-due": "Clear `build-tasks` of the run that built the tasks.",
    "meta-train": "Clear the task: it goes on after its last epoch. Killed for memory: give the "
    "worker more. Out of time: raise RECMETA_TIME_LIMITS.",
    "evaluate": "Clear the task; out of time or memory as for meta-train.",
    "gate": "Clear `evaluate`.",
    "register": "See whether MLflow answers, then clear the task: the champion is the one before.",
    "register-challenger": "See whether MLflow answers, then clear the task.",
    "choose-model": "See whether MLflow answers, then clear the task.",
    "shard-new-users": "Run `recmeta doctor --verify` on the workspace, then clear the task.",
    "adapt": "Clear the shard. Killed for memory: fewer users per shard.",
    "score": "Clear the shard. Killed for memory: fewer users per shard.",
    "audit": "The lists were not published; those of the day before stand. The message says "
    "what is wrong with them: roll back (`recmeta rollback`) if it is the model.",
    "publish": "Clear the task: it publishes all of the day's lists, or none.",
    "expire": "Clear the task; nothing else waits for it.",
    "optimise": "Clear the task; nothing else waits for it.",
    "vacuum": "Clear the task; nothing else waits for it.",
    "drift": "See whether MLflow answers, then clear the task.",
    "needs-retraining": "Clear `drift`.",
    "request-retraining": "Trigger meta_train.",
}
"""What to do, by task."""
