"""The learner and the baseline keep what recmeta asks of all; the metric is right by hand."""

import numpy as np
import torch
from recmeta_example import user_mean
from recmeta_example.shrunken_bias import BIAS
from recmeta_example.within_one import within_one

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.tasks.task_set import Ragged, TaskSet
from recmeta.testing.baseline_conformance import BaselineConformance
from recmeta.testing.conformance import LearnerConformance, Subject


class TestShrunkenBias(LearnerConformance):
    def make_model(self, task_set: TaskSet) -> Model:
        config = ModelConfig(algorithm="shrunken-bias")
        return Model.untrained(config, task_set, torch.device("cpu"))

    def test_the_bias_is_a_shrunken_mean_of_residuals(self, subject: Subject) -> None:
        model, rows = subject.model, subject.batch().support.rows
        found_B = model.learner.adapt(model.params, subject.batch().support)[BIAS]
        left_BR = (rows.value_BR - rows.statistics_BRD[..., 0]) * rows.mask_BR
        torch.testing.assert_close(found_B, left_BR.sum(1) / (rows.mask_BR.sum(1) + 5.0))


class TestUserMean(BaselineConformance):
    baseline = user_mean.BASELINE


def test_within_one_by_hand() -> None:
    query = Ragged.from_lists([[0, 1], [0], [], [2]], [[5.0, 1.0], [3.0], [], [4.0]])
    found = within_one(np.array([4.0, 2.5, 3.5, np.nan]), query)
    np.testing.assert_array_equal(found, [0.5, 1.0, np.nan, np.nan])
