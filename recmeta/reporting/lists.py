"""Ranked lists of users as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from recmeta.markup import inline
from recmeta.reporting.markdown import table

MOST_SHOWN = 20
"""Interactions of a user that are printed."""


def ranked(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a list as a table.

    Args:
        rows: its places, by the names of the files of lists. Rows of earlier versions have no
            `relative_likelihood`.
    """
    has_reasons = any(row.get("because_item") is not None for row in rows)
    has_likelihoods = any(row.get("relative_likelihood") is not None for row in rows)
    header = ["rank", "item", *["likelihood"] * has_likelihoods, "score"]
    header += ["because of"] * has_reasons
    cells = []
    for row in rows:
        shown = [str(row["rank"]), _called(row["title"], row["item_id"])]
        if has_likelihoods:
            shown.append(f"{row['relative_likelihood']:.2f}")
        shown.append(f"{row['score']:.2f}")
        if has_reasons:
            because = row["because_item"]
            shown.append("" if because is None else _called(row["because_title"], because))
        cells.append(shown)
    return table(header, cells)


def known(interactions: Sequence[Mapping[str, Any]], profile: Mapping[str, Any]) -> str:
    """Return what was known of a user, as a sentence and a table."""
    said = ", ".join(f"{inline(name)} {_value(value)}" for name, value in profile.items())
    profiled = f"Profile: {said}." if profile else ""
    if not interactions:
        return profiled or "Nothing was known."
    rows = [[_called(r["title"], r["item_id"]), f"{r['value']:g}"] for r in interactions]
    left_out = len(rows) - MOST_SHOWN
    more = f"{left_out:,} earlier interactions are not shown." if left_out > 0 else ""
    shown = table(["known of the user", "value"], rows[-MOST_SHOWN:])
    return "\n\n".join(filter(None, [profiled, shown, more]))


def _called(title: str | None, item_id: str) -> str:
    """Return an item's title with its id, or the id alone."""
    return inline(item_id) if title is None else f"{inline(title)} ({inline(item_id)})"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return inline("|".join(map(str, value)))
    return f"{value:g}" if isinstance(value, float) else inline(str(value))
