"""MovieLens 100K as anybody can fetch it is the data set that the protocol is defined on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_logs import shared_data

from benchmarks.accuracy import datasets, fetched
from benchmarks.accuracy.places import ENVIRONMENT
from recmeta.errors import UserError
from recmeta.logs.fetching.datasets import DATASETS, default_cache


def test_what_is_fetched_is_the_shared_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = datasets.read("ml-100k", shared_data())
    original = default_cache() / "ml-100k"
    if not original.exists():
        pytest.skip("`recmeta data fetch ml-100k` was not run here")
    shutil.copytree(original, tmp_path / "ml-100k")
    monkeypatch.setenv("RECMETA_CACHE", str(tmp_path))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "empty"))
    log = datasets.read("ml-100k")
    assert datasets.read("ml-100k").about == log.about  # the second time it is only read
    for name in ("user", "item", "value", "time"):
        np.testing.assert_array_equal(getattr(log, name), getattr(shared, name))
    assert log.profiles.equals(shared.profiles)
    assert log.items.item_id.equals(shared.items.item_id)
    assert log.items.attributes.schema == shared.items.attributes.schema


def test_what_cannot_be_fetched_is_told_with_its_source(tmp_path: Path) -> None:
    for name, source in datasets.SOURCES.items():
        with pytest.raises(UserError, match="--data") as told:
            datasets.read(name, tmp_path)
        assert source.obtain in str(told.value)
    assert set(fetched.NAMES) <= set(DATASETS) & set(datasets.SOURCES)
