"""What a fingerprint of code notices."""

import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import code

SOURCE = """'''A module.'''

from pretended.inner import ONE


def one() -> int:
    '''Return 1.'''
    return 1
"""


def test_code_counts_and_words_about_it_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pretended"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("ONE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code, "PACKAGES", ("pretended",))

    def fingerprint(text: str) -> str:
        code._bare.cache_clear()
        code._imported.cache_clear()
        (package / "outer.py").write_text(text)
        return code.fingerprint("pretended.outer")

    first = fingerprint(SOURCE)
    assert fingerprint(SOURCE.replace("Return 1.", "Return one, always.")) == first
    assert fingerprint(SOURCE + "# The end.\n") == first
    assert fingerprint(SOURCE.replace("return 1", "return 2")) != first
    (package / "inner.py").write_text("ONE = 2\n")
    assert fingerprint(SOURCE) != first
    sys.modules.pop("pretended", None)
