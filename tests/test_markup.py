"""Titles and ids that anybody may have written do nothing in a report, on a page, in a terminal."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from recmeta.cli.output import tell
from recmeta.markup import inline, visible
from recmeta.reporting import markdown
from recmeta.reporting.lists import ranked

HOSTILE = [
    "a|b",
    "`code`",
    "**bold** _slanted_ ~~gone~~",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "<img src=x onerror=alert(1)>",
    "<https://evil.example>",
    "&lt;b&gt; &#60;b&#62;",
    "back\\slash \\| \\",
    "two\nlines\r\n# heading",
    "\x1b[31mred\x1b]8;;https://evil.example\x07",
    "user\u202egnp.exe",
    "title #",
    "$x$ \x00\x9b1m",
    "trailing\\",
    "[red]not rich[/red]",
]
TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("ab1 |\\`*_[]()<>&#;~$!@.:/\n\r\t\x1b\u202e\u2028é")),
    st.text(),
)


def cells(row: str) -> list[str]:
    """The cells of the one row of a table, as a Markdown reader shows them; all must be text."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(row)
    kinds = {token.type for token in tokens}
    assert kinds <= {f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td")
                     for end in ("open", "close")} | {"inline"}  # fmt: skip
    found = [token for token in tokens if token.type == "inline"]
    shown = []
    for token in found:
        assert {child.type for child in token.children or ()} <= {"text", "text_special"}
        shown.append("".join(child.content for child in token.children or ()))
    return shown[2:]


@given(TEXT, TEXT)
def test_a_cell_shows_the_text_and_nothing_else(first: str, second: str) -> None:
    made = markdown.table(["", "what"], [[inline(first), inline(second)]])
    assert len(made.split("\n")) == len(made.splitlines()) == 3
    flat = [visible(text.replace("\n", " ").replace("\t", " ")).strip() for text in (first, second)]
    assert [cell.strip() for cell in cells(made)] == flat


@given(TEXT)
def test_a_heading_shows_whose_list_it_is(user_id: str) -> None:
    place = {"rank": 1, "item_id": user_id, "title": None, "score": 4.2}
    report = markdown.top_list(user_id, [["x", "5"]], ranked([place]), "3")
    assert report.count("\n## ") == 0
    assert markdown.shows_user(report, user_id)
    assert not markdown.shows_user(report, f"{user_id}1")
    assert not re.search(r"(?<!\\)https?://", report)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_obeys_nothing(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    tell(text, kind="error")
    shown = capfd.readouterr().err
    odd = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf")} - {"\n"}
    assert not odd
    assert "[red]" in shown or "[red]" not in text
