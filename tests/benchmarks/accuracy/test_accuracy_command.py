"""`python -m benchmarks.accuracy`: the user's mistakes, and what a run leaves."""

from pathlib import Path

import pytest

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.protocols import PROTOCOLS


def test_absent_data_are_named_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["melu-ml1m", "--data", str(tmp_path), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert "ml-1m" in told
    assert "--data" in told
    assert not out.exists()


@pytest.mark.parametrize("wrong", ["melu-ml-1m", "implicit-last"])
def test_an_unknown_protocol_is_answered_with_the_nearest(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([wrong, "--out", str(tmp_path)]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_the_help_names_every_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(name in told.replace("- ", "-") for name in PROTOCOLS)
