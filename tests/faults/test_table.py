"""The table of docs/reliability.md is what was counted, and its commands exist."""

import ast
import json

import pytest
from table import BEGIN, END, PAGE, RESULTS, ROOT, in_page, kept, summed, table


def rows() -> list[dict[str, object]]:
    if not RESULTS.exists():
        pytest.skip("there are no results: `make faults` writes them")
    found: list[dict[str, object]] = json.loads(RESULTS.read_text())
    return found


def test_the_page_shows_the_results() -> None:
    page = PAGE.read_text()
    assert page.count(BEGIN) == page.count(END) == 1
    assert in_page(page, table(rows())) == page


def test_nothing_was_lost_and_every_command_is_there() -> None:
    found = rows()
    assert sum(int(str(row["injected"])) for row in found) >= 1_000
    for row in found:
        assert row["lost"] == 0, row
        for command in row["commands"]:  # type: ignore[attr-defined]
            path, _, test = command.rpartition(" ")[2].partition("::")
            functions = {
                node.name
                for node in ast.walk(ast.parse((ROOT / path).read_text()))
                if isinstance(node, ast.FunctionDef)
            }
            assert test.rpartition("::")[2] in functions, command


def test_counts_of_one_kind_are_summed() -> None:
    line = {"kind": "k", "injected": 2, "lost": 0, "command": "c"}
    counted = summed([line, {**line, "injected": 3, "lost": 1}, {**line, "kind": "a"}])
    assert [(r["kind"], r["injected"], r["lost"]) for r in counted] == [("a", 2, 0), ("k", 5, 1)]
    assert "| k | 5 | 4 | 1 | `c` |" in table(counted)
    assert "| **all** | **7** | **6** | **1** |" in table(counted)


def test_rows_of_other_kinds_can_be_kept() -> None:
    before = [{"kind": "b", "injected": 1}, {"kind": "c", "injected": 2}]
    found = kept(before, [{"kind": "c", "injected": 3}, {"kind": "a", "injected": 4}])
    assert [(row["kind"], row["injected"]) for row in found] == [("a", 4), ("b", 1), ("c", 3)]
