"""Every learner has a page with the same parts, whose numbers are those of the saved results."""

from pathlib import Path

import pytest

from benchmarks.accuracy.compact import expand
from docs import learner_pages
from recmeta.metalearn.registry import LEARNERS

PARTS = ("**Idea.**", "**What adapts, what is shared.**", "**Cost.**", "**Choose it**", "**Not**")
FAMILIES = (
    *("metric", "model", "optimisation", "generative"),
    *("memory", "reinforcement", "transfer", "federated", "search"),
)
"""What the field's surveys name, and the further families."""


def test_every_learner_has_a_page_that_says_when_not_to_use_it() -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in learner_pages.pages()}
    assert set(pages) == set(LEARNERS)
    for name, text in pages.items():
        title, source, *_ = text.split("\n\n")
        assert title.startswith("# ")
        assert source.startswith("*"), f"{name}: the paper comes first"
        assert [part for part in PARTS if part not in text] == [], name
        assert f"({name}.png)" in text
        module = LEARNERS.module_of(name).replace(".", "/")
        assert f"`{module}.py`" in text, name


def test_no_family_is_without_a_learner() -> None:
    text = (learner_pages.DOCS / "learners.md").read_text(encoding="utf-8")
    table = text.partition("| family | learned in meta-training | here |\n")[2].partition("\n\n")[0]
    rows = [[c.strip() for c in row.strip("| ").split("|")] for row in table.splitlines()[1:]]
    assert set(FAMILIES) <= {family for family, *_ in rows}
    assert all(cell for row in rows for cell in row)
    named = {name for name in LEARNERS if any(f"`{name}`" in row[2] for row in rows)}
    assert named == set(LEARNERS)


@pytest.fixture(scope="module")
def result() -> learner_pages.Result:
    return expand(learner_pages.load(learner_pages.RESULT))


def test_measured_numbers_are_those_of_the_results(result: learner_pages.Result) -> None:
    of_lists = learner_pages.as_protocol(learner_pages.load(learner_pages.OF_LISTS))
    assert between(learner_pages.DOCS / "learners.md") == learner_pages.overview(result)
    for page in learner_pages.pages():
        of_clicks = page.stem in learner_pages.OF_CLICKS
        made = (
            learner_pages.measured(of_lists, page.stem, learner_pages.LISTED)
            if of_clicks
            else learner_pages.measured(result, page.stem)
        )
        assert between(page) == made, f"{page.name}: run `make figures`"


def between(page: Path) -> str:
    """Return what stands between a page's marks."""
    text = page.read_text(encoding="utf-8")
    return text.partition(learner_pages.BEGIN)[2].partition(learner_pages.END)[0].strip("\n")
