"""A finished run of the whole pipeline on a small log, to be harmed, mended and run again."""

import dataclasses
import shutil
from pathlib import Path

import polars as pl

from recmeta import pipeline, schema
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.pipeline import PipelineResult
from recmeta.recipes import PipelineConfig
from recmeta.registry.tracking import DATABASE
from recmeta.steps.upkeep import verify
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.training.recipes import training_of
from recmeta.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A workspace after a run, and a copy of it that stays as it was."""

    workspace: Workspace
    kept: Path
    config: PipelineConfig
    mapping: LogMapping

    @classmethod
    def of(cls, root: Path) -> "FinishedRun":
        """Run the pipeline in a folder."""
        log = generate(SyntheticConfig(num_users=60, num_items=30, rows_per_user=(6, 12)), seed=0)
        write_csv(log, root / "raw")
        mapping = LogMapping(
            path=str(root / "raw" / "interactions.csv"),
            time_col="timestamp",
            value_col="value",
            items=AttributeSource(
                path=str(root / "raw" / "items.csv"),
                id_col="item_id",
                columns={"genre": Attribute(kind="categorical"), "tags": Attribute(kind="multi")},
            ),
        )
        train = training_of("bayesian-linear")
        train = dataclasses.replace(
            train,
            training=TrainingConfig(epochs=3, learning_rate=train.training.learning_rate),
            refit=False,
        )
        default = PipelineConfig()
        quick = dataclasses.replace(default.evaluate.evaluation, num_resamples=50, shots=(0, 2))
        config = dataclasses.replace(
            default,
            train=train,
            rival=None,
            evaluate=dataclasses.replace(
                default.evaluate, evaluation=quick, baselines=("item-mean",)
            ),
        )
        made = cls(Workspace(root / "ws"), root / "kept", config, mapping)
        made.again()
        shutil.copytree(made.workspace.path, made.kept)
        return made

    def again(self) -> PipelineResult:
        """Run the pipeline as it was run."""
        return pipeline.run(self.config, self.mapping, self.workspace, force=True, device="cpu")

    def restore(self) -> None:
        """Make the workspace what it was before it was harmed."""
        place = Path(self.workspace.path)
        for path in place.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != DATABASE:
                path.unlink()
        # Over the database, not in its place: MLflow has it open still.
        shutil.copytree(self.kept, place, dirs_exist_ok=True)

    def results(self) -> dict[str, object]:
        """Return what the run left: files that are the same in every run, and the lists."""
        found: dict[str, object] = {
            str(path.relative_to(self.workspace.path)): path.read_bytes()
            for folder in ("tasks", "models", "reports")
            for path in sorted((Path(self.workspace.path) / folder).rglob("*"))
            if path.suffix in (".arrow", ".safetensors", ".json") and not path.name.startswith(".")
        }
        for table in (schema.INTERACTIONS, schema.ITEMS, schema.RECOMMENDATIONS):
            rows = pl.read_delta(self.workspace.table_uri(table))
            rows = rows.drop(schema.INGESTED_AT, schema.SCORED_AT, strict=False)
            found[table.name] = rows.sort(table.key).to_dicts()
        return found

    def losses(self) -> list[str]:
        """Return what `recmeta doctor --verify` finds."""
        return [loss.what for loss in verify.run(self.workspace, full=True).losses]
