"""`recmeta benchmark`: the user's mistakes."""

from pathlib import Path

import pytest
from cli_calls import call

from benchmarks.accuracy.protocol import PROTOCOLS


def test_absent_data_are_named_with_the_remedy(tmp_path: Path) -> None:
    done = call("benchmark", "melu-ml1m", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.code == 2
    assert "ml-1m" in done.stderr
    assert "--data" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["melu-ml-1m", "implicit-last"])
def test_an_unknown_protocol_is_answered_with_the_nearest(wrong: str, tmp_path: Path) -> None:
    done = call("benchmark", wrong, "--out", str(tmp_path))
    assert done.code == 2
    assert "Did you mean" in done.stderr


def test_the_help_names_every_protocol() -> None:
    told = " ".join(call("benchmark", "--help").stdout.replace("│", " ").split())
    assert all(name in told.replace("- ", "-") for name in PROTOCOLS)
