"""What a model says that it reads, beside the definitions of the feature service."""

import torch
from feature_repository import Repository

from recmeta import manifest
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.registry.models.features import features_read
from recmeta.steps.data import build_tasks
from recmeta.tasks.task_set import TaskSet


def test_a_model_reads_the_features_of_its_service(repository: Repository) -> None:
    tasks = manifest.latest(repository.workspace, build_tasks.STEP)
    task_set = TaskSet(repository.workspace / tasks.outputs.tasks)
    found = features_read(Model.untrained(ModelConfig(), task_set, torch.device("cpu")))
    service = repository.store().get_feature_service(found.service)
    assert set(found.features) == {
        f"{view.name}:{feature.name}"
        for view in service.feature_view_projections
        for feature in view.features
    }
