"""Learners with the mistakes that published ones had, and the checks that catch each."""

import dataclasses

import pytest
import torch

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.conformance import LearnerConformance

NETWORK = PreferenceConfig(embedding_dim=3, hidden_dims=(6,))


class Aliasing(MAML):
    """Adapts the live weights, so that adaptation leaks from user to user."""

    def adapt(self, params: Params, support: Support) -> UserState:
        state = super().adapt(params, support)
        with torch.no_grad():
            params["layer.0.bias"].data += 1e-3
        return state


class Mixing(MAML):
    """Centres users on their batch."""

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        mean_BR = super().predict(params, state, items).mean_BR
        return Prediction(mean_BR - mean_BR.mean(0))


class Peeking(MAML):
    """Reads what it should predict."""

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        mean_BR = super().predict(params, state, items).mean_BR
        return Prediction(mean_BR + 0.1 * items.value_BR)


class Unmasked(MAML):
    """Takes padding for ratings."""

    def adapt(self, params: Params, support: Support) -> UserState:
        everything = torch.ones_like(support.rows.mask_BR)
        rows = dataclasses.replace(support.rows, mask_BR=everything)
        return super().adapt(params, Support(support.user, rows))


class Ordered(MAML):
    """Weighs early rows more."""

    def adapt(self, params: Params, support: Support) -> UserState:
        rows = support.rows
        weight_R = 1 / (1 + torch.arange(rows.mask_BR.shape[1]))
        weighted = dataclasses.replace(rows, value_BR=rows.value_BR * weight_R)
        return super().adapt(params, Support(support.user, weighted))


class Unseeded(MAML):
    """Drops out with the global generator."""

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        gradients, metrics = super().meta_gradient(params, batch, generator)
        return {n: g * (torch.rand(g.shape) < 0.5) for n, g in gradients.items()}, metrics


class Forgetful(MAML):
    """Has no gradient for what a batch does not touch."""

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        gradients, metrics = super().meta_gradient(params, batch, generator)
        return {n: g for n, g in gradients.items() if not n.startswith("embedding")}, metrics


class Positional(MAML):
    """Leaves out users by their position in the batch."""

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        left_out_B1 = torch.rand((len(batch), 1), generator=generator) < 0.5
        query = dataclasses.replace(batch.query, mask_BR=batch.query.mask_BR & ~left_out_B1)
        return super().meta_gradient(params, dataclasses.replace(batch, query=query), generator)


class Remembering(MAML):
    """Keeps what it made of the first parameters that it saw."""

    def adapt(self, params: Params, support: Support) -> UserState:
        if not hasattr(self, "kept"):
            self.kept = params["layer.0.bias"].clone()
        return super().adapt({**params, "layer.0.bias": self.kept}, support)


class Deaf(MAML):
    """Does not adapt at all."""

    def adapt(self, params: Params, support: Support) -> UserState:
        return {"user": super().adapt(params, support)["user"]}


IN_FLOAT32: dict[str, object] = {"dtype": "float32"}


@pytest.mark.parametrize(
    ("learner", "check", "arguments"),
    [
        (Aliasing, "test_adapting_and_predicting_leave_the_parameters", {}),
        (Mixing, "test_a_user_is_alone_in_the_batch", IN_FLOAT32),
        (Remembering, "test_the_learner_holds_no_state", {}),
        (Peeking, "test_predicting_does_not_read_the_truth", {}),
        (Unmasked, "test_padding_changes_nothing", IN_FLOAT32),
        (Unmasked, "test_no_support_columns_equal_masked_ones", {}),
        (Ordered, "test_the_order_of_the_support_is_nothing", {}),
        (Unseeded, "test_the_same_batch_gives_the_same_bits", {}),
        (Positional, "test_a_batch_is_the_mean_of_its_parts", {}),
        (Forgetful, "test_gradients_are_finite_and_named_as_the_parameters", {}),
        (Deaf, "test_adapting_pays_after_training", {}),
    ],
)
def test_the_mistake_is_caught(
    learner: type[MAML],
    check: str,
    arguments: dict[str, object],
) -> None:
    class Suite(LearnerConformance):
        def make_model(self, task_set: TaskSet) -> Model:
            model = Model.untrained(ModelConfig(network=NETWORK), task_set, torch.device("cpu"))
            sound = model.learner
            assert isinstance(sound, MAML)
            if broken:
                model.learner = learner(MAMLConfig(), sound.network, sound.item_features, "rating")
            return model

    suite = Suite()
    broken = False
    getattr(suite, check)(suite.make_subject(), **arguments)
    broken = True
    subject = suite.make_subject()
    with pytest.raises(AssertionError):
        getattr(suite, check)(subject, **arguments)


def test_a_suite_must_say_what_it_tests() -> None:
    with pytest.raises(NotImplementedError, match="make its model"):
        LearnerConformance().make_subject()
