"""The whole pipeline from Python: a workspace with tables, models, reports and lists."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recmeta import extras
from recmeta.api.configuration import Config, configured
from recmeta.api.data.columns import Columns
from recmeta.api.data.dataset import as_mapping
from recmeta.api.data.log_frames import Feedback, of_frames
from recmeta.errors.causes import noted
from recmeta.logs.mapping import EARLIEST_TIME, LogMapping
from recmeta.reporting.progress_bars import shown_progress
from recmeta.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, VALUE
from recmeta.workspace import Workspace

if TYPE_CHECKING:
    from recmeta.pipeline import PipelineResult


@noted()
def run(
    log: Any,
    *,
    workspace: str | os.PathLike[str] = "workspace",
    items: Any = None,
    users: Any = None,
    user_id: str = USER_ID,
    item_id: str = ITEM_ID,
    timestamp: str | None = TIMESTAMP,
    value: str | None = VALUE,
    event: str | None = EVENT,
    scale: tuple[float | None, float | None] | None = None,
    feedback: Feedback | None = None,
    time_unit: str | None = None,
    earliest_time: str = EARLIEST_TIME,
    max_bad_share: float = 0.1,
    learner: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    config: Config | None = None,
    recipe: str = "default",
    device: str = "auto",
    processes: int = 1,
    rival: bool = True,
    force: bool = False,
    progress: bool = True,
    wait: float = 0.0,
) -> "PipelineResult":
    """Do every step from a log to ranked lists in a workspace, as `recmeta run` does. Finished
    steps are not done again.

    The arguments from `items` to `max_bad_share` describe a frame, as for `Dataset.from_frame`; a
    mapping describes its log itself. Those from `learner` to `processes` are as for `fit`.

    Args:
        log: a frame with a row per interaction, a `LogMapping`, nested tables with its values, or
            the path of a TOML file that holds them.
        workspace: the folder or object store that keeps everything.
        rival: whether a second learner is trained for comparison in the report: the closed form by
            itself, if the recipe trains MAML on it.
        force: whether to promote the model even if the gate refuses it.
        progress: whether to show progress on standard error or in the notebook.
        wait: the seconds to wait for another command that writes to the workspace.

    Returns:
        The result, with `report`, `metrics`, `gate`, and the manifests of all steps.

    Raises:
        UserError: if any step refuses its input, or the pipeline is not installed.

    >>> import recmeta, tempfile
    >>> from recmeta.testing.synthetic import SyntheticConfig, generate
    >>> log = generate(SyntheticConfig(num_users=60, num_items=30, rows_per_user=(5, 12)), seed=0)
    >>> result = recmeta.run(
    ...     log.interactions, workspace=tempfile.mkdtemp(), learner="bayesian-linear", epochs=1,
    ...     progress=False,
    ... )
    >>> result.report.splitlines()[0], sorted(result.gate)
    ('# What this run did', ['decision', 'promoted', 'reasons'])
    """
    with extras.explained():
        from recmeta import pipeline
    chosen = configured(config, learner=learner, seed=seed, epochs=epochs, recipe=recipe)
    if not rival:
        chosen = dataclasses.replace(chosen, rival=None, implicit_rival=None)
    place = Workspace(workspace, wait=wait)
    with place.temporary_folder() as folder:
        if isinstance(log, LogMapping | Mapping | str | os.PathLike):
            mapping = as_mapping(log)
        else:
            mapping = of_frames(
                log,
                users=users,
                items=items,
                columns=Columns(
                    user_id=user_id, item_id=item_id, timestamp=timestamp, value=value, event=event
                ),
                scale=scale,
                feedback=feedback,
                unit=time_unit,
                earliest_time=earliest_time,
                max_bad_share=max_bad_share,
            ).written(Path(folder))
        with shown_progress(shown=progress) as show:
            return pipeline.run(
                chosen,
                mapping,
                place,
                force=force,
                device=device,
                processes=processes,
                progress=show,
            )
