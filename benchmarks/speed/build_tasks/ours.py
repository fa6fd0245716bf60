"""recmeta's own step, and the time of its stages."""

import time
from collections import defaultdict
from pathlib import Path

from recmeta.steps.data import build_tasks
from recmeta.steps.parts.task_building import BuildTasksConfig
from recmeta.workspace import Workspace


class StageTimes:
    """Measures stages by a step's progress calls: the seconds between two calls belong to a
    stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage = "opening"
        self._since = time.perf_counter()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.perf_counter()
        # Told of no unit done, the stage begins here; what went before belongs to the one before.
        self.seconds[what if done else self._stage] += now - self._since
        self._stage, self._since = what, now


def build(workspace: Workspace, folder: Path) -> dict[str, float]:
    """Build the tasks of a workspace into its `tasks`; `folder` becomes a link to them.

    Returns:
        Seconds by stage.
    """
    stages = StageTimes()
    config = BuildTasksConfig()
    manifest = build_tasks.run(config, workspace, progress=stages)
    stages("opening", 1, 1)
    folder.rmdir()
    folder.symlink_to(workspace.local_path(manifest.outputs.tasks))
    return dict(stages.seconds)
