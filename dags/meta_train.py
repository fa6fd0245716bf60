"""Meta-training on new tasks, evaluation, and the gate's decision."""

from airflow.sdk import DAG, Label, Param, PartitionedAssetTimetable, task

from recmeta.orchestration.names import ALL, Names
from recmeta.orchestration.pools import GPU_POOL
from recmeta.orchestration.runs import (
    DEFAULT_ARGS,
    announce,
    day_of,
    log_evaluation,
    log_progress,
    logger,
    recorded,
    tell_of_refusal,
)
from recmeta.orchestration.settings import config, device, manifest, workspace
from recmeta.orchestration.shape import limited

DOC = """
### New tasks become a candidate, and the candidate may become the champion

Runs when `build_tasks` has built tasks, or when `maintenance` asks for it because something drifts
or no model was trained for a week. `is-due` ends the run early if the last training is too recent
or there is too little new data; its log says why.

* **The gate** compares the candidate's predictions of ratings and its lists with those of the
  champion and of every baseline on the same cold users; a tie keeps the champion. `register` makes
  the candidate the champion and announces `champion_model`, which `cold_start_scoring` follows;
  `register-challenger` keeps it on record with the reasons.
* **Pool** `recmeta_gpu`: one slot per GPU. A training that was killed continues after its last
  epoch.
* **Model page** in MLflow: `recmeta`, aliases `champion`, `challenger` and `previous`.
"""


PARAMS = {
    "min_days": Param(
        0.0,
        type="number",
        minimum=0,
        title="Fewest days between trainings",
        description="Counted from the end of a training to the next one.",
    ),
    "min_new_interactions": Param(
        1,
        type="integer",
        minimum=0,
        title="Fewest new interactions",
        description="Interactions of the tasks beyond those of the last training. With 0, a "
        "model is always trained.",
    ),
    "max_days": Param(
        7.0,
        type="number",
        minimum=0,
        title="Most days without a training",
        description="After them, any new interaction is enough.",
    ),
    "start": Param(
        None,
        type=["null", "string"],
        enum=[None, "factors", "bayesian-factors", "champion", "random"],
        title="Start from",
        description="The start of meta-training: champion continues with the champion's "
        "parameters. If empty, as the configuration says.",
    ),
    "force": Param(
        False,
        type="boolean",
        title="Promote anyway",
        description="Make the candidate the champion even if the gate refuses it.",
    ),
}


def meta_train(names: Names) -> None:
    @task(**limited("choose-tasks"))
    def choose_tasks(*, triggering_asset_events=None) -> str:
        """Return the tasks that triggered this run, or the latest ones if a person or drift
        triggered it."""
        from recmeta.manifest import latest
        from recmeta.steps.data import build_tasks

        events = triggering_asset_events.get(names.tasks, [])
        if events:
            return events[-1].extra["key"]
        return latest(workspace(), build_tasks.STEP).key

    @task.short_circuit(**limited("is-due"))
    def is_due(key: str, *, params=None, triggering_asset_events=None) -> bool:
        """Return whether to train: not too often, not on too little new data, and not too late."""
        from recmeta.steps.data import build_tasks
        from recmeta.steps.learning.retraining import RetrainingConfig, is_due

        limits = {name: params[name] for name in ("min_days", "min_new_interactions", "max_days")}
        if triggering_asset_events.get(names.retraining_request):
            limits |= {"min_days": 0.0, "min_new_interactions": 0}
        found = is_due(workspace(), manifest(build_tasks.STEP, key), RetrainingConfig(**limits))
        logger.info(found.reason)
        return found.due

    @task(**limited("meta-train"), pool=GPU_POOL)
    def train(tasks: str, *, params=None) -> str:
        """Meta-train on the tasks, with a checkpoint after every epoch."""
        import dataclasses

        from recmeta.steps.data import build_tasks
        from recmeta.steps.learning import meta_train

        tasks_built = manifest(build_tasks.STEP, tasks)
        settings = config().training_for(tasks_built.outputs.objective)
        if params["start"]:
            settings = dataclasses.replace(settings, start=params["start"])
        done = meta_train.run(
            settings, workspace(), tasks_built, device=device(), progress=log_progress
        )
        return recorded(done)

    @task(**limited("evaluate"), pool=GPU_POOL)
    def evaluate(tasks: str, model: str) -> str:
        """Evaluate candidate, champion and baselines on the same cold users."""
        from recmeta.steps.data import build_tasks
        from recmeta.steps.learning import evaluate, meta_train

        done = evaluate.run(
            config().evaluate,
            workspace(),
            manifest(build_tasks.STEP, tasks),
            manifest(meta_train.STEP, model),
            device=device(),
        )
        log_evaluation(done)
        return recorded(done)

    @task.branch(**limited("gate"))
    def gate(key: str, *, params=None) -> str:
        """Return the decision of the paired tests."""
        from recmeta.steps.learning import evaluate

        promoted = manifest(evaluate.STEP, key).outputs.promoted
        return "register" if promoted or params["force"] else "register-challenger"

    @task(**limited("register"), outlets=[names.champion_model])
    def register(key: str, *, params=None, outlet_events=None, **context) -> str:
        """Make the candidate the champion."""
        from recmeta.steps.learning import evaluate, register
        from recmeta.steps.parts.days import latest_day

        done = register.run(workspace(), manifest(evaluate.STEP, key), force=params["force"])
        day = day_of({**context, "params": params}) or latest_day(workspace())
        version = done.outputs.model_version
        announce(outlet_events, names.champion_model, day.isoformat(), model_version=version)
        recorded(done)
        logger.info("Version %s is the champion.", version)
        return version

    @task(**limited("register-challenger"))
    def register_challenger(key: str, **context) -> str:
        """Keep the candidate on record with the gate's reasons, and notify operators; the champion
        stays."""
        from recmeta.steps.learning import evaluate, register

        evaluated = manifest(evaluate.STEP, key)
        done = register.run(workspace(), evaluated)
        recorded(done)
        version = done.outputs.model_version
        tell_of_refusal(context, version, evaluated)
        return version

    tasks = choose_tasks()
    model = train(tasks)
    is_due(tasks) >> model
    report = evaluate(tasks, model)
    decision = gate(report)
    decision >> Label("passed") >> register(report)
    decision >> Label("refused") >> register_challenger(report)


for names in ALL:
    with DAG(
        names.of("meta_train"),
        schedule=PartitionedAssetTimetable(assets=names.tasks | names.retraining_request),
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        params=PARAMS,
        doc_md=DOC,
        tags=names.tags,
    ):
        meta_train(names)
