"""A training that starts from the content of another model, and says what it took over."""

import dataclasses
import json
from pathlib import Path

import pytest
from trained import Trained

from recmeta.errors import UserError
from recmeta.recipes import default
from recmeta.registry.models import versions
from recmeta.registry.tracking import connect, model_name
from recmeta.steps.learning import meta_train


def test_a_training_says_what_it_carried_over(trained: Trained) -> None:
    ws = trained.workspace
    recipe = default().train
    training = dataclasses.replace(recipe.training, epochs=1)
    folder = str((ws / trained.model.outputs.model).local_path())
    asked = dataclasses.replace(recipe, training=training, content_from=folder, freeze_content=True)
    found = meta_train.run(asked, ws, trained.tasks, device="cpu")
    told = found.outputs.carried_over
    assert told["item.genre"].split(" of ")[0] == told["item.genre"].split(" of ")[1].split(" ")[0]
    assert told["user.age"] == "carried over"
    assert told["item.item_id"].startswith("fresh")
    client = connect(ws)
    run_id = found.outputs.run_id
    logged = Path(client.download_artifacts(run_id, "carried_over.json"))
    assert json.loads(logged.read_text(encoding="utf-8")) == told
    assert client.get_run(run_id).data.params["content_from"] == folder
    assert found.inputs["content_from"]
    assert meta_train.run(asked, ws, trained.tasks, device="cpu").reused
    registered = f"models:/{model_name()}@champion"
    assert versions.named_model(ws, registered).read_json("model.json")["config"]


def test_no_such_model_is_refused(trained: Trained, tmp_path: Path) -> None:
    for name, said in (
        (str(tmp_path), "no model in the folder"),
        ("models:/nobody/1", "has no model 'models:/nobody/1'"),
        ("models:/nobody@champion", "has no model 'models:/nobody@champion'"),
    ):
        asked = dataclasses.replace(default().train, content_from=name)
        with pytest.raises(UserError, match=said):
            meta_train.run(asked, trained.workspace, trained.tasks, device="cpu")
    with pytest.raises(UserError, match="freeze_content is true without content_from"):
        dataclasses.replace(default().train, freeze_content=True)
    with pytest.raises(UserError, match="brings its own content"):
        dataclasses.replace(default().train, content_from="there", start="champion")
