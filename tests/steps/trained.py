"""What the steps after the first training are tested on."""

import dataclasses
import datetime

from recmeta.manifest import Manifest
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.steps.learning.meta_train import MetaTrainOutputs
from recmeta.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class Trained:
    """A workspace whose champion was trained on everything before its last days."""

    workspace: Workspace
    tasks: Manifest[BuildTasksOutputs]
    model: Manifest[MetaTrainOutputs]
    days: list[datetime.date]
    """Ingested after the training, one by one."""
