"""The table of docs/reliability.md, from what the tests counted.

python tests/faults/table.py COUNTED.jsonl           write docs/results/faults.json and the page
python tests/faults/table.py COUNTED.jsonl --keep    and keep the rows of kinds not counted now
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reliability.md"
RESULTS = ROOT / "docs/results/faults.json"
BEGIN, END = "<!-- faults: made by `make faults` -->\n", "<!-- /faults -->\n"
HEADER = "| kind of fault | injected | survived | lost | command |\n|---|---:|---:|---:|---|\n"


def summed(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per kind of fault: tests of one kind are summed, their commands listed."""
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        row = rows.setdefault(
            line["kind"], {"kind": line["kind"], "injected": 0, "lost": 0, "commands": []}
        )
        row["injected"] += line["injected"]
        row["lost"] += line["lost"]
        if line["command"] not in row["commands"]:
            row["commands"].append(line["command"])
    return sorted(rows.values(), key=lambda row: str(row["kind"]))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows, and their sum, as Markdown."""
    lines = [
        f"| {row['kind']} | {row['injected']:,} | {row['injected'] - row['lost']:,} "
        f"| {row['lost']:,} | {'<br>'.join(f'`{_short(c)}`' for c in row['commands'])} |"
        for row in rows
    ]
    injected, lost = (sum(row[name] for row in rows) for name in ("injected", "lost"))
    lines.append(
        f"| **all** | **{injected:,}** | **{injected - lost:,}** | **{lost:,}** | `make faults` |"
    )
    return HEADER + "\n".join(lines) + "\n"


def in_page(page: str, made: str) -> str:
    """Return a page with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + made + END + after


def _short(command: str) -> str:
    return command.removeprefix("RECMETA_FAULTS=1 python -m ")


def kept(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return rows by kind, of those before only the ones whose kinds were not counted anew."""
    counted = {row["kind"] for row in now}
    rows = [*now, *(row for row in before if row["kind"] not in counted)]
    return sorted(rows, key=lambda row: str(row["kind"]))


def main(counted: Path, *, keep: bool) -> None:
    """Write the results and the page."""
    rows = summed([json.loads(line) for line in counted.read_text().splitlines()])
    if keep:
        rows = kept(json.loads(RESULTS.read_text()), rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    PAGE.write_text(in_page(PAGE.read_text(), table(rows)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), keep="--keep" in sys.argv[2:])
