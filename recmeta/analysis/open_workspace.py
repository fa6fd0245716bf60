"""A workspace as an analyst sees it: tables, tasks, manifests, evaluation, models.

>>> import recmeta
>>> workspace = recmeta.open_workspace("workspace")
>>> workspace.tables()[["table", "rows"]].query("table == 'quarantine'").to_dict("records")
[{'table': 'quarantine', 'rows': 0}]
>>> list(workspace.table("interactions").columns[:3])
['user_id', 'item_id', 'timestamp']
>>> workspace.table("items", kind="polars").height
50
"""

import functools
import io
import os
from typing import Any, Literal

import pandas as pd
import polars as pl

from recmeta import schema
from recmeta.analysis.registered_model import RegisteredModel
from recmeta.errors import UserError, did_you_mean
from recmeta.logs import tables
from recmeta.manifest import LATEST, Manifest, latest
from recmeta.metalearn.model import Model
from recmeta.records.step_definition import as_stored
from recmeta.registry.models import versions
from recmeta.registry.tracking import PARENT, connect, experiment_id
from recmeta.reporting import plots
from recmeta.reporting.picture import Picture
from recmeta.steps.data import build_tasks
from recmeta.steps.learning import evaluate
from recmeta.tasks.task_set import Split, TaskSet
from recmeta.workspace import Workspace, sealed

Kind = Literal["pandas", "polars", "lazy"]
_TABLES = {table.name: table for table in schema.TABLES}


class OpenWorkspace:
    """A workspace, opened for reading. What it returns is what stands there when it is asked."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        """
        Raises:
            UserError: where there is no workspace.
        """
        self.workspace = Workspace(location).check_format()
        if not self.workspace.exists("tables"):
            raise UserError(
                f"{self.workspace.location} is not a workspace: it has no tables. Make one with "
                "`recmeta run` or `make demo`."
            )

    def __repr__(self) -> str:
        return f"OpenWorkspace({self.workspace.location!r})"

    # Tables --------------------------------------------------------------------------------------

    def tables(self) -> pd.DataFrame:
        """Return a row per table: `table`, `rows`, and its Delta `version`."""
        found = {
            name: tables.opened(self.workspace, table)
            for name, table in _TABLES.items()
            if tables.is_there(self.workspace, table)
        }
        return pd.DataFrame(
            {
                "table": list(found),
                "rows": [table.count() for table in found.values()],
                "version": [table.version() for table in found.values()],
            }
        )

    def table(self, name: str, *, kind: Kind = "pandas", version: int | None = None) -> Any:
        """Return a table; docs/tables.md explains every column.

        Args:
            name: such as `interactions`, `quarantine`, `users`, `items`, `recommendations`.
            kind: a pandas frame, a Polars frame, or a Polars query that has read nothing yet.
            version: the version of the Delta table; if None, the newest.

        Raises:
            UserError: if the table is unknown, or has not been written yet.

        >>> import recmeta
        >>> workspace = recmeta.open_workspace("workspace")
        >>> workspace.table("interactions", kind="lazy").select("value").collect().width
        1
        >>> workspace.table("interaction")
        Traceback (most recent call last):
        recmeta.errors.UserError: there is no table 'interaction'. Did you mean 'interactions'? ...
        """
        if name not in _TABLES:
            raise UserError(
                f"there is no table {name!r}.{did_you_mean(name, list(_TABLES))} "
                f"There are: {', '.join(_TABLES)}."
            )
        if not tables.is_there(self.workspace, _TABLES[name]):
            raise UserError(
                f"the table {name!r} has not been written in {self.workspace.location}."
            )
        query = pl.scan_delta(tables.opened(self.workspace, _TABLES[name], version))
        if kind == "lazy":
            return query
        frame = query.collect()
        return frame if kind == "polars" else frame.to_pandas()

    # What steps did ------------------------------------------------------------------------------

    def manifest(self, step: str) -> Manifest[dict[str, Any]]:
        """Return what a step last did: configuration, versions read and written, counts.

        >>> import recmeta
        >>> recmeta.open_workspace("workspace").manifest("ingest").counts["quarantined"]
        0
        """
        return latest(self.workspace, as_stored(step))

    def steps(self) -> pd.DataFrame:
        """Return a row per step that has finished: `step`, `finished_at`, `seconds`, `key`."""
        folder = self.workspace / "manifests"
        # A record of users who were forgotten is no step that can be found again.
        finished = [step for step in folder.names() if (folder / step).exists(LATEST)]
        found = [self.manifest(step) for step in finished]
        columns = ("step", "finished_at", "seconds", "key")
        rows = [{name: getattr(m, name) for name in columns} for m in found]
        return pd.DataFrame(rows).sort_values("finished_at", ignore_index=True)

    @functools.cached_property
    def task_set(self) -> TaskSet:
        """The task set that was built last."""
        return TaskSet(self.workspace / latest(self.workspace, build_tasks.STEP).outputs.tasks)

    def tasks(self, split: Split) -> pd.DataFrame:
        """Return a row per task of a split: `user_id`, `state`, `cut_time`, sizes of support and
        query, and the user's attributes.

        >>> import recmeta
        >>> tasks = recmeta.open_workspace("workspace").tasks("test")
        >>> bool((tasks["query"] >= 1).all())
        True
        """
        found = self.task_set.tasks(split)
        frame = found.profile.to_pandas()
        frame.insert(1, "state", found.state)
        times = pd.to_datetime(pd.Series(found.cut_time), unit="us", utc=True, errors="coerce")
        frame.insert(2, "cut_time", times)
        frame.insert(3, "support", found.support.lengths)
        frame.insert(4, "query", found.query.lengths)
        return frame

    # Evaluation ----------------------------------------------------------------------------------

    @property
    def evaluation(self) -> dict[str, Any]:
        """The last evaluation, as docs/metrics.md explains it."""
        found: dict[str, Any] = self._report.read_json("evaluation.json")
        return found

    def metrics(self) -> pd.DataFrame:
        """Return a row per predictor and metric: mean over the cold users and its interval.

        >>> import recmeta
        >>> metrics = recmeta.open_workspace("workspace").metrics()
        >>> sorted(metrics.columns)
        ['ci_high', 'ci_low', 'mean', 'metric', 'num_users', 'predictor']
        """
        rows = [
            {"predictor": name, "metric": metric, **interval}
            for name, found in self.evaluation["intervals"].items()
            for metric, interval in found.items()
        ]
        return pd.DataFrame(rows)

    def adaptation_curve(self) -> pd.DataFrame:
        """Return a row per predictor and number of shots: `mean` of the primary metric, `ci_low`,
        `ci_high`."""
        return self._points(self.evaluation["adaptation_curve"])

    def list_curve(self) -> pd.DataFrame:
        """Return the same for lists; `mean` is that of `full_ndcg@k`. Evaluations by earlier
        versions of recmeta have no rows."""
        return self._points(self.evaluation.get("list_curve", {"shots": [], "points": {}}))

    @staticmethod
    def _points(curve: dict[str, Any]) -> pd.DataFrame:
        rows = [
            {"predictor": name, "shots": shots, **point}
            for name, points in curve["points"].items()
            for shots, point in zip(curve["shots"], points, strict=True)
        ]
        return pd.DataFrame(rows)

    def per_user(self) -> pd.DataFrame:
        """Return a row per predictor and cold user, with every metric."""
        content = self._report.read_bytes("per_user.parquet")
        return pd.read_parquet(io.BytesIO(content))

    def plot_adaptation_curve(self) -> Picture:
        """Return the adaptation curve of the last evaluation.

        >>> import recmeta
        >>> recmeta.open_workspace("workspace").plot_adaptation_curve()
        Picture(... KiB, PNG)
        """
        found = [self.evaluation.get(name) for name in ("adaptation_curve", "list_curve")]
        return Picture(plots.adaptation_curve([curve for curve in found if curve is not None]))

    def plot_training(self) -> Picture:
        """Return the losses of the training that was evaluated last."""
        return Picture(self._report.read_bytes("training.png"))

    @property
    def _report(self) -> Any:
        return sealed(self.workspace / latest(self.workspace, evaluate.STEP).outputs.report)

    # Models --------------------------------------------------------------------------------------

    @functools.cached_property
    def champion(self) -> RegisteredModel:
        """The champion; before the first promotion, the version that was registered last.

        >>> import recmeta
        >>> recmeta.open_workspace("workspace").champion
        RegisteredModel(version='2', bayesian-linear)
        """
        found = versions.champion(self.workspace)
        if found is None:
            registered = versions.versions(self.workspace)
            if not registered:
                raise UserError(
                    f"no model is registered for {self.workspace.location}: run `recmeta run`."
                )
            found = registered[-1]
        return self.model(found.version)

    def model(self, version: str) -> RegisteredModel:
        """Return a version of the registered model, which has the same methods as the champion."""
        found = versions.get(self.workspace, version)
        model = Model.load(versions.model_folder(self.workspace, found))
        return RegisteredModel(self.workspace, found, model)

    def versions(self) -> pd.DataFrame:
        """Return a row per registered version: `version`, `aliases`, `run_id`, and its tags."""
        rows = [
            {"version": v.version, "aliases": ", ".join(v.aliases), "run_id": v.run_id, **v.tags}
            for v in versions.versions(self.workspace)
        ]
        return pd.DataFrame(rows)

    def runs(self) -> pd.DataFrame:
        """Return a row per training in MLflow: `run_id`, `start_time`, `status`, its parameters
        (`params.…`) and its last metrics (`metrics.…`). Runs nested in it, such as those of tuning,
        are left out."""
        client = connect(self.workspace)
        experiment = experiment_id(client)
        found = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
        rows = [
            {
                "run_id": run.info.run_id,
                "start_time": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
                "status": run.info.status,
                **{f"params.{name}": value for name, value in run.data.params.items()},
                **{f"metrics.{name}": value for name, value in run.data.metrics.items()},
            }
            for run in found
            if PARENT not in run.data.tags
        ]
        return pd.DataFrame(rows)
