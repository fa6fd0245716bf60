"""Item vectors from content and identity, for linear models of each user.

    x_i = M · v_i + b + identity_i        v_i: a known item's vector by the factorisation
    x_i = M · v_i + b + unknown           v_i: a new item's vector by its content

The v_i stay as pretraining found them; M, b and the identities are learned. A known item whose
identity is hidden, so that the model learns to do without (DropoutNet: Volkovs, Yu, Poutanen,
NeurIPS 2017), has the vector that content predicts *without its own ratings*.

Legend: N items, C coefficients of content, X = C + 1 numbers of a vector (offset, C - 1 factors,
logarithm of the noise), D item statistics.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from recmeta.metalearn.factors.content_prior import embed
from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.named_draws import normal_by
from recmeta.metalearn.tensors.batch import NUM_STATISTICS
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Features, Field

INTERCEPT = "content.intercept"
FACTORS = f"factors.item.{ITEM_ID_FIELD}"
"""An item's vector by the factorisation, minus its vector by content."""
DEVIATION = f"deviation.item.{ITEM_ID_FIELD}"
"""The posterior standard deviation of an item's vector by the factorisation."""
HELD_OUT = f"held_out.item.{ITEM_ID_FIELD}"
"""A known item's vector by content fitted without its ratings, minus that fitted with them."""
IDENTITY = f"embedding.item.{ITEM_ID_FIELD}"
FROM_CONTENT = "vector.from_content"
BIAS = "vector.bias"
UNKNOWN = "vector.unknown"
"""The vector that replaces the identity of an item without one."""
FROM_STATISTICS = "vector.from_statistics"


def content_name(field: Field) -> str:
    """Return the name of the parameter that is a content field's table."""
    return f"{'embedding' if field.is_coded else 'content'}.item.{field.name}"


class ItemVectors:
    """Item vectors as pure functions of the parameters. The object holds only shapes."""

    def __init__(
        self,
        fields: Sequence[Field],
        num_factors: int,
        *,
        use_statistics: bool,
        learn_content: bool,
    ) -> None:
        self.fields = tuple(fields)
        self.content_fields = tuple(f for f in self.fields if f.name != ITEM_ID_FIELD)
        self.num_factors = num_factors
        self.use_statistics = use_statistics
        self.learn_content = learn_content
        self.num_ids = next((f.num_codes for f in self.fields if f.name == ITEM_ID_FIELD), 0)

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the parameters that meta-training does not change."""
        content = [] if self.learn_content else [content_name(f) for f in self.content_fields]
        intercept = [] if self.learn_content else [INTERCEPT]
        own = [FACTORS, DEVIATION, HELD_OUT] if self.num_ids else []
        return frozenset([*own, *intercept, *content])

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters: content and identity N(0, 0.1²), M the identity."""
        width = self.num_factors + 1

        def noise(rows: int, columns: int) -> torch.Tensor:
            return 0.1 * torch.randn((rows, columns), generator=generator)

        params = {content_name(f): noise(f.num_rows, width) for f in self.content_fields}
        params[INTERCEPT] = torch.zeros(width)
        params[FROM_CONTENT] = torch.eye(width, width + 1)
        params[BIAS] = torch.zeros(width + 1)
        params[UNKNOWN] = torch.zeros(width + 1)
        if self.num_ids:
            params[IDENTITY] = noise(self.num_ids, width + 1)
            params[IDENTITY][:, -1] = 0.0
            params[IDENTITY][0] = 0.0
            params[FACTORS] = torch.zeros((self.num_ids, width))
            params[DEVIATION] = torch.zeros((self.num_ids, width))
            params[HELD_OUT] = torch.zeros((self.num_ids, width))
        if self.use_statistics:
            params[FROM_STATISTICS] = torch.zeros((NUM_STATISTICS, width + 1))
        return params

    def of_items(
        self,
        params: Params,
        features: Features,
        item_N: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return two vectors of each item (N, 2, X), the second as if its identity were not known.

        Args:
            generator: draws the items' vectors from their posteriors. Their means have seen the
                ratings of the very users that meta-training is about to predict.
        """
        encoded = {name: t[item_N] for name, t in features.items()}
        content_NC = params[INTERCEPT].expand(len(item_N), -1)
        for field in self.content_fields:
            content_NC = content_NC + embed(params[content_name(field)], field, encoded[field.name])
        if self.num_ids == 0:
            new_NX = content_NC @ params[FROM_CONTENT] + params[BIAS] + params[UNKNOWN]
            return torch.stack([new_NX, new_NX], 1)
        code_N = encoded[ITEM_ID_FIELD]
        is_known_N1 = (code_N > 0)[:, None]
        known_NC, hidden_NC = (
            content_NC + F.embedding(code_N, params[name]) * is_known_N1
            for name in (FACTORS, HELD_OUT)
        )
        if generator is not None:
            draw_NC = normal_by(code_N, known_NC, generator)
            deviation_NC = F.embedding(code_N, params[DEVIATION]) * is_known_N1
            known_NC = known_NC + deviation_NC * draw_NC
        both_N2C = torch.stack([known_NC, hidden_NC], 1)
        both_N2X = both_N2C @ params[FROM_CONTENT] + params[BIAS]
        own_NX = torch.where(is_known_N1, F.embedding(code_N, params[IDENTITY]), params[UNKNOWN])
        return both_N2X + torch.stack([own_NX, params[UNKNOWN].expand_as(own_NX)], 1)

    def with_statistics(
        self, params: Params, vector_BRX: torch.Tensor, statistics_BRD: torch.Tensor
    ) -> torch.Tensor:
        """Return the vectors plus the effect of the items' past on offset and noise."""
        if not self.use_statistics:
            return vector_BRX
        return vector_BRX + statistics_BRD.to(vector_BRX.dtype) @ params[FROM_STATISTICS]

    def identity_penalty(self, params: Params) -> torch.Tensor:
        """Return the squared norm of the identities, the items' part beyond their factors."""
        if self.num_ids:
            return params[IDENTITY].square().sum()
        return params[BIAS].new_zeros(())
