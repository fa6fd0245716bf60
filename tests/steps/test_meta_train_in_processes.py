"""A step in two processes leaves what it leaves in one, under the same key."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from recmeta.metalearn.model import Model
from recmeta.recipes import default
from recmeta.steps.learning import meta_train
from recmeta.workspace import Workspace

if TYPE_CHECKING:
    from trained import Trained


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="set RECMETA_SLOW=1")
def test_the_model_is_that_of_one_process(trained: "Trained", tmp_path: Path) -> None:
    recipe = default()
    training = dataclasses.replace(recipe.train.training, epochs=3)
    config = dataclasses.replace(recipe.train, training=training, seed=7)
    shutil.copytree(trained.workspace.path, tmp_path / "copy")
    alone, shared = trained.workspace, Workspace(tmp_path / "copy")
    one = meta_train.run(config, alone, trained.tasks, device="cpu")
    two = meta_train.run(config, shared, trained.tasks, device="cpu", processes=2)
    assert not two.reused
    assert one.key == two.key
    assert one.outputs.best_epoch == two.outputs.best_epoch
    assert two.outputs.dev_loss == pytest.approx(one.outputs.dev_loss, rel=1e-4)
    histories = [
        json.loads((ws / m.outputs.model).read_bytes("history.json"))
        for ws, m in ((alone, one), (shared, two))
    ]
    assert [e["number"] for e in histories[0]] == [e["number"] for e in histories[1]]
    expected, found = (Model.load(ws / m.outputs.model) for ws, m in ((alone, one), (shared, two)))
    for name, p in expected.params.items():
        torch.testing.assert_close(found.params[name], p, rtol=1e-3, atol=1e-4, msg=name)
