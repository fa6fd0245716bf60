"""Why an item stands in a user's list, as a picture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recmeta.reporting.plots import to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 12
"""Of each kind; the smallest effects are left out and counted."""
UP, DOWN = "#2a6f97", "#c8553d"
LONGEST_NAME = 44


def explanation(found: Mapping[str, Any], *, unit: str) -> bytes:
    """Return a PNG with a bar for each interaction and for each feature of the item, to the right
    where it raises the score.

    Args:
        found: an explanation's JSON.
        unit: what scores are in.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):  # a title may have dollars in it
        return to_png(_figure(found, unit))


def _figure(found: Mapping[str, Any], unit: str) -> "Figure":
    from matplotlib.figure import Figure

    of_user = [(_support_label(reason), reason["effect"]) for reason in found["support"]]
    of_item = [(_feature_label(reason), reason["effect"]) for reason in found["features"]]
    parts = [
        (f"what the user did ({len(of_user)})", of_user),
        (f"features of the item ({len(of_item)})", of_item),
    ]
    heights = [max(1, min(MOST_BARS, len(bars))) for _, bars in parts]
    figure = Figure(figsize=(8, 1.9 + 0.3 * sum(heights)), layout="constrained")
    for axes, (title, bars) in zip(
        figure.subplots(len(parts), 1, height_ratios=heights), parts, strict=True
    ):
        _draw(axes, title, bars)
        axes.set_xlabel(f"effect on the score, {unit}")
    figure.suptitle(
        f"Why {_short(found['title'])} scores {found['score']:.2f} "
        f"for user {_short(found['user_id'])} "
        f"(an unknown user: {found['score_of_unknown_user']:.2f})",
        fontsize=10,
    )
    return figure


def _draw(axes: Any, title: str, bars: list[tuple[str, float]]) -> None:
    shown = bars[:MOST_BARS][::-1]  # the largest at the top
    effects = [effect for _, effect in shown]
    colours = [UP if effect > 0 else DOWN for effect in effects]
    axes.barh(range(len(shown)), effects, color=colours)
    axes.set_yticks(range(len(shown)), [label for label, _ in shown], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    left_out = len(bars) - len(shown)
    axes.set_title(title + (f", {left_out} smaller ones not shown" if left_out else ""), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)


def _support_label(reason: Mapping[str, Any]) -> str:
    return f"{_short(reason['title'])}: {reason['value']:g}"


def _feature_label(reason: Mapping[str, Any]) -> str:
    return f"{reason['name']}: {_short(reason['value'])}" if reason["value"] else reason["name"]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
