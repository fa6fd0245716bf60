"""Pre-training on all users' rows together, and fine-tuning on a new user's: transfer learning, the
baseline that meta-learning has to beat (Chen, Liu, Kira, Wang, Huang, ICLR 2019; Tian, Wang,
Krishnan, Tenenbaum, Isola, ECCV 2020).

    (φ, θ) ← (φ, θ) − β ∇ Σ_u L(rows of u; φ, θ)   pre-training: no user has weights of their own
    θ_u = θ − α ∇_θ L(support_u; φ, θ)             fine-tuning, num_steps times

Pre-training does not anticipate fine-tuning: nothing is learned about adapting, and the rate and
the number of steps are hyperparameters. Early stopping watches the loss after fine-tuning.
"""

import dataclasses

import torch

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.learner import Metrics, Params
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch, joined


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTunedConfig(MAMLConfig):
    """Every decision layer is fine-tuned. The inner loop is that of MAML, with fixed rates."""

    learn_rates: bool = False
    """By definition false: pre-training has no inner step whose rate it could learn."""
    second_order: bool = False
    """Without effect, because pre-training has no inner step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learn_rates:
            raise ValueError(
                "learn_rates is True, and pre-training takes no inner steps: choose "
                "inner_learning_rate, or the learner maml."
            )

    def build(self, setting: Setting) -> "Transfer":
        """Return the learner with these hyperparameters."""
        return Transfer(
            self, setting.network, setting.item_features, setting.objective, setting.value_range
        )


class Transfer(MAML):
    """A learner that is trained as if all users were one, and adapts as MAML does."""

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the gradient of the mean loss of all rows, and that loss."""
        together = dataclasses.replace(self.config, num_steps=0)
        plain = MAML(together, self.network, self.item_features, self.objective, self.value_range)
        rows = joined(batch.support.rows, batch.query)
        nothing = Rows(
            rows.item_BR[:, :0],
            rows.statistics_BRD[:, :0],
            rows.value_BR[:, :0],
            rows.mask_BR[:, :0],
        )
        pooled = TaskBatch(Support(batch.support.user, nothing), rows)
        return plain.meta_gradient(params, pooled, generator)


LEARNER = FineTunedConfig
