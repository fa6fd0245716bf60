"""The code of README and of the pages in docs/, and how tests run it."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^|\n)\n((?: {4}.*\n|\n)+)")
slow = pytest.mark.skipif(
    os.environ.get("RECMETA_SLOW") != "1", reason="minutes long: set RECMETA_SLOW=1"
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the language (empty: none is named) and text of a page's code, in its order."""
    page = path.read_text(encoding="utf-8")
    yield from FENCE.findall(page)
    for block in INDENTED.findall(FENCE.sub("", page)):
        yield "", textwrap.dedent(block)


def run_in(folder: Path, blocks: list[tuple[str, str]]) -> None:
    """Run blocks of Python, in one process, and of bash, in their order."""
    program = (
        "import json, subprocess, sys\n"
        "scope = {}\n"
        "for language, block in json.load(sys.stdin):\n"
        "    if language == 'bash':\n"
        "        subprocess.run(['bash', '-euc', block], check=True)\n"
        "    else:\n"
        "        exec(block, scope)\n"
    )
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(blocks),
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
