"""Vectors are read by their principal components, at training and ever after.

Legend: N vectors, W numbers of a raw vector, D numbers that are read, I items, C coefficients.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.metalearn.factors.content_prior import ContentConfig, ContentRegression
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.starts import bayesian_linear_start, pretraining
from recmeta.metalearn.starts.earlier_model import start_from_model
from recmeta.metalearn.tensors.encoding import Encoder, FeatureConfig
from recmeta.metalearn.tensors.vectors import principal_components, read_vectors
from recmeta.tasks.item_files import Items, write_items
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder

WIDTH = 12


def column(raw_NW: np.ndarray, missing: tuple[int, ...] = ()) -> pa.Array:
    mask = np.isin(np.arange(len(raw_NW)), missing)
    flat = pa.array(raw_NW.astype(np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, raw_NW.shape[1], mask=pa.array(mask))


def drawn(num: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(WIDTH, WIDTH)) * np.linspace(2, 0.1, WIDTH)[:, None]
    return (generator.normal(size=(num, WIDTH)) @ mixed + 1.0).astype(np.float32)


def encoder_of(values: pa.Array, **changes: object) -> Encoder:
    items = pa.array([f"i{n}" for n in range(len(values))])
    profile = pa.table({"user_id": ["u"]})
    config = FeatureConfig(use_item_id=False, **changes)
    return Encoder.fit(profile, items, pa.table({"plot": values}), None, config)


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    raw_NW = drawn(50)
    read_ND = read_vectors("plot", column(raw_NW), principal_components(raw_NW, 5))
    apart_NW = raw_NW - raw_NW.mean(0)
    left_NK, size_K, _ = np.linalg.svd(apart_NW, full_matrices=False)
    expected_ND = left_NK[:, :5] * size_K[:5]
    expected_ND = expected_ND / np.sqrt(np.square(expected_ND).mean())
    np.testing.assert_allclose(np.abs(read_ND), np.abs(expected_ND), atol=1e-3)
    np.testing.assert_allclose(read_ND.mean(0), 0, atol=1e-4)


@given(num=st.integers(0, 4), most=st.integers(1, 20))
def test_few_and_equal_vectors_have_components_too(num: int, most: int) -> None:
    raw_NW = np.ones((num, WIDTH), np.float32)
    read_ND = read_vectors("plot", column(raw_NW), principal_components(raw_NW, most))
    assert read_ND.shape == (num, min(most, WIDTH))
    assert (read_ND == 0).all()


def test_an_encoder_reads_new_items_as_it_read_the_old_ones() -> None:
    raw_NW = drawn(40)
    encoder = encoder_of(column(raw_NW), vector_dim=4)
    stored = Encoder.from_bytes(encoder.to_bytes())
    new = column(drawn(6, seed=1), missing=(2,))
    table = pa.table({"plot": new})
    ids = pa.array(["x"] * 6)
    read = stored.encode_items(ids, table)["plot"]
    torch.testing.assert_close(read, encoder.encode_items(ids, table)["plot"])
    assert read.shape == (6, 4)
    assert (read[2] == 0).all()
    bare = stored.encode_items(ids, pa.table({"other": ["a"] * 6}))["plot"]
    assert (bare == 0).all()


def test_vectors_of_another_length_are_refused() -> None:
    encoder = encoder_of(column(drawn(10)))
    short = column(drawn(2)[:, :5])
    with pytest.raises(UserError, match=r"'plot'.*reads vectors of 12 numbers"):
        encoder.encode_items(pa.array(["x", "y"]), pa.table({"plot": short}))


def test_what_a_vector_says_of_items_is_found_without_their_own_values() -> None:
    raw_NW = drawn(200)
    encoder = encoder_of(column(raw_NW))
    features = encoder.encode_items(pa.array(["x"] * 200), pa.table({"plot": column(raw_NW)}))
    generator = torch.Generator().manual_seed(0)
    width = features["plot"].shape[1]
    truth_IC = features["plot"].double() @ torch.randn((width, 3), generator=generator).double()
    config = ContentConfig(vector_strength=1.0)
    regression = ContentRegression(encoder.item_fields, features, 200, config, seed=0)
    found = regression.fit(truth_IC, torch.full_like(truth_IC, 10.0))
    assert found.tables["plot"].shape == (width, 3)
    left_IC = found.held_out_IC - truth_IC
    assert float(left_IC.square().mean() / truth_IC.square().mean()) < 0.02


def with_vectors(task_set: TaskSet, folder: Path) -> TaskSet:
    """Return the task set with a vector for all items but one."""
    items = task_set.items()
    vectors = column(drawn(len(items.item)), missing=(3,))
    for name in task_set.folder.names():
        Folder.at(folder).write_bytes(name, task_set.folder.read_bytes(name))
    attributes = items.attributes.append_column("plot", vectors)
    write_items(Folder.at(folder), Items(items.item_id, items.item, items.valid_from, attributes))
    return TaskSet(Folder.at(folder))


@pytest.mark.parametrize(
    ("algorithm", "start"),
    [
        ("maml", pretraining.start_from_factorisation),
        ("bayesian-linear", bayesian_linear_start.start_from_factorisation),
    ],
)
def test_models_read_vectors(
    task_set: TaskSet, tmp_path: Path, algorithm: str, start: Callable[..., Params]
) -> None:
    told = with_vectors(task_set, tmp_path / "told")
    model = Model.untrained(ModelConfig(algorithm=algorithm), told, torch.device("cpu"))
    params = model.learner.init_params(torch.Generator().manual_seed(0))
    train = told.tasks("train")
    model.params = start(model, params, train.rows, seed=0)
    tasks = told.tasks("test")
    predicted = Scorer.of(model).score_query(tasks)
    assert np.isfinite(predicted).all()
    model.save(Folder.at(tmp_path / "model"))
    loaded = Model.load(Folder.at(tmp_path / "model")).on(told.items(), told.statistics())
    np.testing.assert_array_equal(Scorer.of(loaded).score_query(tasks), predicted)


def test_a_model_that_starts_from_another_reads_vectors_as_it_did(
    task_set: TaskSet, tmp_path: Path
) -> None:
    told = with_vectors(task_set, tmp_path / "told")
    config, cpu = ModelConfig(algorithm="bayesian-linear"), torch.device("cpu")
    first = Model.untrained(config, told, cpu)
    first.params = first.learner.init_params(torch.Generator().manual_seed(0))
    turned = TaskSet(told.folder)
    items = told.items()
    flipped = pa.table(
        {
            **dict(zip(items.attributes.column_names, items.attributes.columns, strict=True)),
            "plot": column(-drawn(len(items.item), seed=9)),
        }
    )
    write_items(
        Folder.at(told.folder.path), Items(items.item_id, items.item, items.valid_from, flipped)
    )
    second = Model.untrained(config, turned, cpu, first.encoder)
    fresh = second.learner.init_params(torch.Generator().manual_seed(1))
    rescaled = functools.partial(second.config.learner.rescaled, second)
    second.params = start_from_model(second, fresh, first, rescaled)
    by_name = {f.name: f for f in first.encoder.item_fields}
    again = {f.name: f for f in second.encoder.item_fields}
    assert again["plot"] == by_name["plot"]
    on_old = second.on(items, told.statistics())
    tasks = told.tasks("test")
    np.testing.assert_allclose(
        Scorer.of(on_old).score_query(tasks), Scorer.of(first).score_query(tasks), atol=1e-4
    )
