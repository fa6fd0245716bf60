"""The results of `benchmarks/gpu.sh` in a folder, as one table and one JSON file.

    python -m benchmarks.speed.gathered FOLDER

A benchmark that ran out of time has the rows that it finished.
"""

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benchmarks.speed.result import BenchmarkResult, Row, machine

PARTS = ("training", "many-users", "adapt-score", "meta-train")
RESULT, TESTS = "gpu.json", "tests.xml"


def gathered(folder: Path) -> BenchmarkResult:
    """Return the tests' outcome and every part's rows, in the columns that they share."""
    rows: list[Row] = []
    if (folder / TESTS).exists():
        rows.append({"part": "tests", **_tests(folder / TESTS)})
    for part in PARTS:
        path = folder / f"{part}.jsonl"
        if not path.exists():
            rows.append({"part": part, "what": "nothing was measured"})
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            found: dict[str, Any] = json.loads(line)
            rows.append({**found, "part": part, "what": _what(part, found)})
    return BenchmarkResult(
        name="gpu",
        title="On this machine",
        columns=(
            "part",
            "what",
            "device",
            "batch_size",
            "users_per_second",
            "share_of_ceiling",
            "share_of_products",
            "test_mae",
            "peak_gib",
        ),
        rows=rows,
        machine=machine("torch", "numpy", "pyarrow", "safetensors") | _gpu(folder),
    )


def _what(part: str, row: Row) -> str:
    if part == "training":
        return str(row["learner"])
    if part == "many-users":
        return f"part {row['part']}"
    if part == "meta-train":
        return f"{row['name']}, {row['inner_steps']} steps"
    return str(row["name"])


def _tests(path: Path) -> Row:
    (suite,) = ET.parse(path).getroot().iter("testsuite")
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    said = f"{passed} passed, {failed} failed, {count['skipped']} skipped"
    return {"what": said, "seconds": float(suite.get("time", "0"))}


def _gpu(folder: Path) -> dict[str, Any]:
    """Return what nvidia-smi said, which the script keeps."""
    path = folder / "gpu.csv"
    said = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(zip(("gpu", "driver", "memory"), said[0].split(", "), strict=False)) if said else {}


def main() -> int:
    """Write the JSON, print the table; 1 where a test failed."""
    folder = Path(sys.argv[1])
    found = gathered(folder)
    text = json.dumps(found.to_dict(), indent=1) + "\n"
    (folder / RESULT).write_text(text, encoding="utf-8")
    sys.stdout.write(found.to_markdown() + "\n")
    return int(any(" 0 failed" not in r["what"] for r in found.rows if r["part"] == "tests"))


if __name__ == "__main__":
    sys.exit(main())
