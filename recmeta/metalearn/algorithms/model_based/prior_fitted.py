"""A prior for everybody: a network that learned to recommend from synthetic logs alone (Müller,
Hollmann, Pineda Arango, Grabocka, Hutter: Transformers can do Bayesian inference, ICLR 2022).

    prediction = network(statistics of the log, what is known of the user, statistics of the item)

The network's weights come with the package, and are the same for every log. What is fitted to a log
are counts (`recmeta.metalearn.prior_fitted.log_statistics`), so that it has something to say from
the first row on and there is nothing to train; ids and attributes are not read.

Legend: B users, S support rows, R rows, C codes of items, E numbers of evidence.
"""

import dataclasses
import functools
import importlib.resources

import numpy as np
import safetensors.torch
import torch

from recmeta import schema
from recmeta.metalearn.inner_loop.objectives import gaussian, loss_of
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.numerics.sparse_gradients import gradients_by
from recmeta.metalearn.prior_fitted import log_statistics, network
from recmeta.metalearn.starts.beginning import Built, Start, StartInputs
from recmeta.metalearn.starts.pretraining import known_items
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Features

EVIDENCE = "prior.evidence"
"""What a settled user's rows say of every item, (B, C, E)."""
LOG_SPREAD_RANGE = (-3.0, 2.0)
WEIGHTS = "weights.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorFittedConfig(LearnerConfig):
    """There is nothing to choose: whatever could be was chosen on synthetic logs."""

    def build(self, setting: Setting) -> "PriorFitted":
        """Return the learner."""
        return PriorFitted(setting)

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return the network with the statistics of the training users' rows; with
        `start = "random"` with those of no rows."""
        number = known_items(built)
        if number is None or not inputs.has_factors:
            return Start(fresh)
        rows, num_items = inputs.rows, built.catalogue.num_items
        code_I = np.zeros(num_items, np.int64)
        code_I[number.numpy()] = 1 + np.arange(len(number))
        known = code_I[rows.item] > 0
        value = np.ones(len(rows.item))
        if built.objective == "rating":
            encoder = built.encoder
            value = (rows.value.astype(np.float64) - encoder.value_mean) / encoder.value_scale
        time_U = inputs.tasks.cut_time
        recency = None
        if (time_U < schema.END_OF_TIME).all():
            recency = log_statistics.recencies(time_U[rows.task[known]])
        of_log = log_statistics.LogRows(
            rows.task[known], code_I[rows.item][known], value[known], recency
        )
        return Start(fresh | log_statistics.log_statistics(of_log, 1 + len(number), inputs.seed))

    def rescaled(self, built: Built, params: Params, ratio: float, shift: float) -> Params:
        """Return the same: the network reads and predicts values in units of their spread."""
        return params


@functools.cache
def shipped_weights() -> Params:
    """Return the weights that come with the package, as `python -m recmeta.training.prior_fitted`
    makes them; not to be changed."""
    file = importlib.resources.files("recmeta.metalearn.prior_fitted") / WEIGHTS
    weights: Params = safetensors.torch.load(file.read_bytes())
    return weights


class PriorFitted:
    """A user is their rows: which items, and how far each is from what was expected."""

    def __init__(self, setting: Setting) -> None:
        ids = (f for f in setting.item_fields if f.name == ITEM_ID_FIELD)
        self.num_codes = next((f.num_rows for f in ids), 1)
        self.item_features: Features = setting.item_features
        self.is_graded = setting.is_graded

    def init_params(self, generator: torch.Generator) -> Params:
        """Return the shipped weights and the statistics of a log without rows; nothing is drawn."""
        weights = {name: p.clone() for name, p in shipped_weights().items()}
        return weights | log_statistics.empty_statistics(self.num_codes)

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the gradient of the mean query loss by the network's weights: a Gaussian's
        likelihood, or of implicit feedback the softmax's. The log's statistics, which are not
        learned, have none."""
        learned = {
            n: p.detach().requires_grad_()
            for n, p in params.items()
            if not n.startswith(log_statistics.PREFIX)
        }
        with torch.enable_grad():
            query, leaves = batch.query, params | learned
            found = self._outputs(leaves, self.adapt(leaves, batch.support), query)
            value_BR = query.value_BR.to(found.value.dtype)
            if self.is_graded:
                spread_BR = found.log_spread.clamp(*LOG_SPREAD_RANGE).exp()
                loss_B = gaussian(found.value, spread_BR, value_BR, query.mask_BR)
            else:
                loss_B = loss_of("softmax")(found.taken, value_BR, query.mask_BR)
            loss = loss_B.mean()
        return gradients_by(loss, learned), {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return what is kept of the users, see `network.user_state`; sampled negatives, which
        nobody took, are not read."""
        rows, mask_BS = support.rows, support.rows.mask_BR
        if not self.is_graded:
            mask_BS = mask_BS & (rows.value_BR > 0)
        return network.user_state(
            params,
            self._codes(rows),
            rows.value_BR,
            rows.statistics_BRD,
            mask_BS,
            is_graded=self.is_graded,
        )

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows as they are."""
        return items

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return expected ratings with their standard deviation, and the log-odds of being taken;
        of implicit feedback the latter alone."""
        found = self._outputs(params, state, items)
        if not self.is_graded:
            return Prediction(found.taken)
        spread_BR = found.log_spread.clamp(*LOG_SPREAD_RANGE).exp()
        return Prediction(found.value, spread_BR, taken_BR=found.taken)

    def settle(self, params: Params, state: UserState) -> UserState:
        """Return the users with what their rows say of every item."""
        return {**state, EVIDENCE: network.evidence_of_all(params, state)}

    def ranked_by(self, params: Params, settled: UserState, items: Rows) -> torch.Tensor:
        """Return the log-odds of being taken of items that all users share."""
        return self._outputs(params, settled, items).taken

    def _outputs(self, params: Params, state: UserState, items: Rows) -> network.Outputs:
        code_BR = self._codes(items)
        if EVIDENCE in state and len(code_BR) == 1:
            evidence_BRE = state[EVIDENCE][:, code_BR[0]]
        else:
            num_users = len(state[network.CODE])
            evidence_BRE = network.evidence_of_rows(params, state, code_BR.expand(num_users, -1))
        return network.outputs(params, state, evidence_BRE, code_BR, items.statistics_BRD)

    def _codes(self, rows: Rows) -> torch.Tensor:
        """Return int64 (B, R) the items' codes; 0 of items that were not there yet."""
        if ITEM_ID_FIELD not in self.item_features or self.num_codes == 1:
            return torch.zeros_like(rows.item_BR)
        return self.item_features[ITEM_ID_FIELD].long()[rows.item_BR]


LEARNER = PriorFittedConfig
