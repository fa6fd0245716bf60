"""A small model in closed form, and people to ask."""

import numpy as np
import torch

from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.serving.evidence.fitting import at_the_end, counted
from recmeta.serving.evidence.respondents import Respondents, respondents
from recmeta.tasks.task_set import Tasks, TaskSet


def closed_form(task_set: TaskSet) -> Model:
    """Return a Bayesian linear model with random parameters."""
    config = ModelConfig(
        algorithm="bayesian-linear",
        learner=BayesianLinearConfig(num_factors=3, learn_content=True, estimate="mean"),
    )
    model = Model.untrained(config, task_set, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    model.params = {
        name: p + 0.3 * torch.randn(p.shape, generator=generator)
        for name, p in model.learner.init_params(generator).items()
    }
    return model


def people_of(model: Model, tasks: Tasks) -> Respondents:
    """Return users of whom all rows but a query may be answers."""
    rows = counted(tasks.rows, False)
    return respondents(at_the_end(tasks, model), rows, np.random.default_rng(0))[0]
