"""The picture of an explanation takes whatever a catalogue calls its items."""

import pytest

from recmeta.reporting.explanation_plot import explanation


@pytest.mark.parametrize("title", ["$9.99 and a_{", "<b>&amp;</b>", "two\nlines", "", "x" * 500])
def test_any_title_is_drawn_as_it_is(title: str) -> None:
    found = {
        "title": title,
        "user_id": title,
        "score": 1.0,
        "score_of_unknown_user": 0.5,
        "support": [{"title": f"${title}$", "value": 4.0, "effect": 0.5}],
        "features": [{"name": "genre", "value": f"${title}$", "effect": -0.1}],
    }
    assert explanation(found, unit="stars").startswith(b"\x89PNG")
