"""Adapt the champion to new users and publish their lists."""

from airflow.sdk import DAG, Param, PartitionedAssetTimetable, task

from recmeta.orchestration.names import ALL, DATE_PARAM, MODEL_PARAM, Names
from recmeta.orchestration.pools import SCORING_POOL
from recmeta.orchestration.runs import (
    DEFAULT_ARGS,
    day_of,
    deadline,
    log_counts,
    logger,
    recorded,
)
from recmeta.orchestration.settings import config, device, feature_store, manifest, workspace
from recmeta.orchestration.shape import limited

DOC = """
### New users get recommendations

Runs when a day brought new users (`new_users`) or a model was promoted (`champion_model`). Users
whose first interaction is in the window that ends with the run's day get a ranked list. The
champion adapts to their few interactions up to that day, shard by shard, in parallel.

* **Published together**: the lists of all shards are audited, then become the day's lists in one
  commit of the table `published`. To read them, join it with `recommendations` on `run`.
* **Idempotent**: running a day again replaces that day's lists and nothing else; with the same
  users and the same model it changes nothing.
* Before the first champion there is nothing to score with: the run ends early, green.
"""


PARAMS = {
    "date": DATE_PARAM,
    "model_version": MODEL_PARAM,
    "window_days": Param(
        30,
        type="integer",
        minimum=1,
        title="Days of being new",
        description="A user is new on the day of the first interaction and for the rest of "
        "this many days.",
    ),
    "users_per_shard": Param(
        2000,
        type="integer",
        minimum=1,
        title="Users per shard",
        description="About how many users one mapped task adapts and scores.",
    ),
}


def cold_start_scoring(names: Names) -> None:
    @task(**limited("choose-day"))
    def choose_day(**context) -> str:
        """Return the run's partition, the param, or the newest day that was ingested."""
        from recmeta.steps.parts.days import latest_day

        return (day_of(context) or latest_day(workspace())).isoformat()

    @task.short_circuit(**limited("choose-model"))
    def choose_model(*, params=None) -> str | None:
        """Return the current champion, for all shards, or None before the first promotion."""
        from recmeta.registry.models import versions

        champion = versions.champion(workspace())
        version = params["model_version"] or (champion and champion.version)
        logger.info(f"Version {version}." if version else "There is no champion yet.")
        return version

    @task(**limited("shard-new-users"))
    def shard_new_users(day: str, *, params=None) -> list[str]:
        """Write the users who are new on this day, with their few interactions."""
        from recmeta.logs.reading.partitions import parse_day
        from recmeta.steps.serving import publish, shard_new_users

        limits = shard_new_users.NewUsersConfig(
            window_days=params["window_days"], users_per_shard=params["users_per_shard"]
        )
        publish.create_tables(workspace())
        done = shard_new_users.run(workspace(), parse_day(day), limits)
        recorded(done)
        return list(done.outputs.shards)

    @task(**limited("adapt"), pool=SCORING_POOL)
    def adapt(shard: str, version: str) -> str:
        """Adapt the model to each user of a shard."""
        from recmeta.registry.models import versions
        from recmeta.steps.parts import new_user_files
        from recmeta.steps.serving import adapt

        users = new_user_files.shard_mapping(workspace(), shard)
        model = versions.get(workspace(), version)
        done = adapt.run(
            users, workspace(), version=model, feature_store=feature_store(), device=device()
        )
        return recorded(done)

    @task(**limited("score"), pool=SCORING_POOL)
    def score(adapted: str) -> str:
        """Rank the whole catalogue for each user of a shard."""
        from recmeta.steps.serving import adapt, score

        users = manifest(adapt.STEP, adapted)
        return recorded(score.run(config().score, workspace(), users, device=device()))

    @task(**limited("audit"))
    def audit(keys: list[str]) -> dict[str, int]:
        """Stop malformed lists before they are published."""
        from recmeta.steps.serving import publish, score

        found = publish.audit(workspace(), [manifest(score.STEP, key) for key in keys])
        log_counts("audited", found)
        return found

    @task(**limited("publish"), pool=names.tables_pool)
    def publish(day: str, keys: list[str]) -> dict[str, int]:
        """Publish the lists of all shards as the day's lists, in one commit."""
        from recmeta.logs.reading.partitions import parse_day
        from recmeta.steps.serving import publish, score

        scored = [manifest(score.STEP, key) for key in keys]
        found = publish.publish(workspace(), parse_day(day), scored)
        log_counts(f"published the lists of {day}", found)
        return found

    day = choose_day()
    version = choose_model()
    shards = shard_new_users(day)
    version >> shards
    keys = score.expand(adapted=adapt.partial(version=version).expand(shard=shards))
    audit(keys) >> publish(day, keys)


for names in ALL:
    with DAG(
        names.of("cold_start_scoring"),
        schedule=PartitionedAssetTimetable(assets=names.new_users | names.champion_model),
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        deadline=deadline(),
        params=PARAMS,
        doc_md=DOC,
        tags=names.tags,
    ):
        cold_start_scoring(names)
