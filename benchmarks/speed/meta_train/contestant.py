"""The interface of a contestant, and shared functions.

Each gets the same parameters, users and encoded features, and returns the same gradient.

Legend: n rows of one user, F embedded features, W longest list.
"""

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from benchmarks.speed.melu_shape import MeluShape
from recmeta.metalearn.learner import Params
from recmeta.metalearn.tensors.encoding import Features, Field
from recmeta.tasks.task_set import Ragged

IntArray = npt.NDArray[np.int64]


class Contestant(Protocol):
    """One way to compute a batch's meta-gradient."""

    def prepare(self, users: IntArray) -> None:
        """Prepare the data of these users, given by their numbers in the task set. This is not
        timed."""
        ...

    def meta_gradient(self, users: IntArray) -> tuple[float, Params]:
        """Return the mean query loss of these users and its gradient by parameter."""
        ...


@dataclasses.dataclass(frozen=True)
class UserData:
    """One user's rows."""

    user: Features
    """(1,) or (1, W)."""
    support_item: torch.Tensor
    """(n,) numbers of items."""
    support_value: torch.Tensor
    """(n,) in units of the model."""
    query_item: torch.Tensor
    query_value: torch.Tensor


def user_data(shape: MeluShape, users: IntArray) -> dict[int, UserData]:
    """Return the data of users by their number."""
    tasks, encoder = shape.tasks, shape.model.encoder
    device = shape.model.device
    features = shape.model.catalogue.users(tasks)

    def side(rows: Ragged, user: int) -> tuple[torch.Tensor, torch.Tensor]:
        place = slice(int(rows.offsets[user]), int(rows.offsets[user + 1]))
        scaled = (rows.value[place] - encoder.value_mean) / encoder.value_scale
        item = rows.item[place].astype(np.int64)
        value = torch.from_numpy(scaled.astype(np.float32))
        return torch.from_numpy(item).to(device), value.to(device)

    return {
        int(user): UserData(
            {name: t[user : user + 1] for name, t in features.items()},
            *side(tasks.support, int(user)),
            *side(tasks.query, int(user)),
        )
        for user in users
    }


def leaves_of(params: Params) -> Params:
    """Return the tensors as leaves that require gradients."""
    return {name: p.detach().requires_grad_() for name, p in params.items()}


def embedded(
    leaves: Params, side: str, fields: tuple[Field, ...], features: Features
) -> torch.Tensor:
    """Return the embedded features of users or items, (n, F): a code's row, the mean of a list's
    rows."""
    parts = []
    for field in fields:
        codes, table = features[field.name], leaves[f"embedding.{side}.{field.name}"]
        if field.kind == "multi":
            present = (codes > 0).float()
            total = (F.embedding(codes, table) * present[..., None]).sum(1)
            parts.append(total / present.sum(1, keepdim=True).clamp(min=1))
        else:
            parts.append(F.embedding(codes, table))
    return torch.cat(parts, 1)


def inputs_of(leaves: Params, shape: MeluShape, user: Features, item: torch.Tensor) -> torch.Tensor:
    """Return the inputs of the decision layers for one user's rows, (n, F)."""
    encoder, catalogue = shape.model.encoder, shape.model.catalogue
    features = {name: t[item] for name, t in catalogue.features.items()}
    of_items = embedded(leaves, "item", encoder.item_fields, features)
    of_user = embedded(leaves, "user", encoder.user_fields, user)
    return torch.cat([of_user.expand(len(item), -1), of_items], 1)


def decide(layers: Params, inputs_nF: torch.Tensor) -> torch.Tensor:
    """Return the decision layers' output, (n,)."""
    hidden = inputs_nF
    for index in range(3):
        if index:
            hidden = torch.relu(hidden)
        hidden = F.linear(hidden, layers[f"layer.{index}.weight"], layers[f"layer.{index}.bias"])
    return hidden[:, 0]


def layers_of(params: Params) -> Params:
    """Return the parameters that adapt."""
    return {name: p for name, p in params.items() if name.startswith("layer.")}


class DecisionLayers(torch.nn.Module):
    """The layers that adapt, as a module that holds the meta-parameters themselves."""

    def __init__(self, leaves: Params) -> None:
        super().__init__()
        for name, p in layers_of(leaves).items():
            self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(p.detach()))

    def forward(self, inputs_nF: torch.Tensor) -> torch.Tensor:
        """Return (n,)."""
        named = {
            f"layer.{i}.{kind}": getattr(self, f"layer_{i}_{kind}")
            for i in range(3)
            for kind in ("weight", "bias")
        }
        return decide(named, inputs_nF)

    def gradients(self) -> Params:
        """Return what was accumulated, by the parameters' own names."""
        found = {}
        for name, p in self.named_parameters():
            assert p.grad is not None
            _, index, kind = name.split("_")
            found[f"layer.{index}.{kind}"] = p.grad
        return found


def filled(leaves: Params, gradients: Params) -> Params:
    """Return a gradient for every parameter."""
    return {name: gradients.get(name, torch.zeros_like(p)) for name, p in leaves.items()}
