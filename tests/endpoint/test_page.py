"""The pages in a real browser: the whole path that a visitor and the owner take."""

import datetime
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from served import KEY, Served, serving

from recmeta import schema
from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.endpoint.guard.keys import ApiKeys
from recmeta.endpoint.operation.owner_history import history
from recmeta.logs import tables
from recmeta.workspace import Workspace

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine's PATH")
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def site(source: RegistrySource, workspace: Workspace) -> Iterator[Served]:
    with serving(source, workspace=workspace, poll_seconds=3600.0) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, site: Served) -> Iterator[Any]:
    """A new visitor's page on a phone; anything that the browser complains of fails the test."""
    context = browser.new_context(viewport=PHONE, reduced_motion="reduce")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    # Chromium itself reports every answer of 4xx and 5xx, which the page handles.
    assert [c for c in complaints if "Failed to load resource" not in c] == []


def enter(page: Any, site: Served, path: str = "/") -> None:
    """Open a page with the key."""
    page.goto(site.url + path)
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Open").click()
    page.wait_for_selector("#work:not([hidden])")


def titles(page: Any) -> list[str]:
    found: list[str] = page.locator("#list .title").all_inner_texts()
    return [title.split("\n")[0].strip() for title in found]


def answered(page: Any, number: int) -> None:
    """Wait for the list that follows so many answers."""
    page.wait_for_function(
        "n => document.getElementById('live').textContent.includes(`follows ${n} answer`)",
        arg=number,
    )


def test_a_visitor_answers_and_the_list_follows(page: Any, site: Served) -> None:
    page.goto(site.url)
    page.get_by_label("API key").fill("not-the-right-key")
    page.get_by_role("button", name="Open").click()
    page.get_by_text("That key was not accepted.").wait_for()
    assert page.locator("#work").is_hidden()
    enter(page, site)

    assert page.locator("#list li").count() == 10
    start = page.locator("#list").inner_text()
    first = page.locator("#asked").inner_text()
    assert first.startswith("How do you like The Film No. ")
    page.locator("#values").get_by_role("button", name="5 of 5").click()
    answered(page, 1)
    assert page.locator("#number").inner_text() == "Question 2"
    assert page.locator("#asked").inner_text() != first
    assert page.locator("#list").inner_text() != start
    assert page.locator("#list .reason").count() > 0
    film = first.removeprefix("How do you like ").removesuffix("?")
    assert film in page.locator("#list .reason").first.inner_text()
    assert page.evaluate("document.activeElement.id") == "asked"

    second = page.locator("#asked").inner_text()
    page.get_by_role("button", name="I don’t know it").click()
    page.wait_for_function("s => document.getElementById('asked').textContent !== s", arg=second)
    assert page.locator("#number").inner_text() == "Question 3"

    listed = titles(page)[0]
    page.get_by_label("Search by title").fill(listed)
    found = page.locator("#found")
    found.get_by_role("button", name=f"{listed}: 1 of 5", exact=True).click()
    answered(page, 2)
    assert listed in page.locator("#answers").inner_text()
    assert listed not in titles(page)
    assert "With 2 answers" in page.locator("#curve-said").inner_text()
    assert page.locator("#curve svg circle").count() == 1

    page.get_by_role("button", name=f"Take back the answer about {listed}", exact=True).click()
    answered(page, 1)
    page.get_by_role("button", name="Start again").click()
    answered(page, 0)
    assert page.locator("#answers-card").is_hidden()
    assert page.locator("#number").inner_text() == "Question 1"


def test_the_keyboard_is_enough(page: Any, site: Served) -> None:
    enter(page, site)
    page.locator("#asked").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").endswith("1 of 5")
    page.keyboard.press("Enter")
    answered(page, 1)
    page.keyboard.press("Tab")  # from the next question on
    page.keyboard.press("Space")
    answered(page, 2)


def test_nothing_is_wider_than_a_phone(page: Any, site: Served) -> None:
    for path in ("/", "/owner"):
        page.context.clear_cookies()
        page.goto(site.url)
        page.evaluate("sessionStorage.clear()")
        enter(page, site, path)
        page.wait_for_selector("#list li, #steps tr")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        unnamed = page.evaluate(
            """[...document.querySelectorAll('button, input')].filter(e => !e.hidden
               && !e.textContent.trim() && !e.getAttribute('aria-label')
               && !(e.labels && e.labels.length)).length"""
        )
        assert unnamed == 0


def test_the_owner_sees_the_state_of_the_job(page: Any, site: Served) -> None:
    enter(page, site, "/owner")
    assert "Version 1 is the champion" in page.locator("#summary").inner_text()
    versions = page.locator("#versions > li")
    assert versions.count() == 2
    assert "champion" in versions.nth(1).inner_text()
    steps = page.locator("#steps tr th").all_inner_texts()
    assert steps[:4] == ["ingest", "build-tasks", "meta-train", "evaluate"]
    assert "No drift report yet" in page.locator("#drift").inner_text()
    titles = page.locator("#history h2").all_inner_texts()
    assert titles[:2] == ["Accuracy on ratings, by version", "Lists, by version"]
    assert "Volume of each log" in titles
    assert "Drift" not in titles  # no chart of nothing
    assert page.locator("#history svg[role=img] > title").count() == len(titles)
    counts = page.locator("#steps .counts").all_inner_texts()
    assert not [text for text in counts if re.search(r"\b0 ", text)]
    assert page.evaluate("Object.keys(sessionStorage)") == ["recmeta-owner-key"]


def test_the_owners_key_is_the_only_one_that_opens_the_owners_page(
    browser: Any, source: RegistrySource, workspace: Workspace
) -> None:
    keys = ApiKeys({"shop": KEY, "owner-of-it": "the-owner's-own-key"})
    with serving(source, keys=keys, workspace=workspace, poll_seconds=3600.0) as site:
        assert site.client.get("/v1/workspace").status_code == 403
        site.ask(("i01", 4.0))
        page = browser.new_page()
        page.goto(f"{site.url}/owner")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Open").click()
        page.get_by_text("This is for the owner of the job: use a key named owner.").wait_for()
        page.get_by_label("API key").fill("the-owner's-own-key")
        page.keyboard.press("Enter")
        page.wait_for_selector("#work:not([hidden])")
        assert "Time of a list" in page.locator("#history").inner_text()
        assert "1 list since the server started" in page.locator("#history").inner_text()
        page.close()


def test_of_a_day_of_several_versions_the_newest_is_told(tmp_path: Path) -> None:
    workspace, today = Workspace(tmp_path / "ws"), datetime.date(2026, 5, 1)
    now = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
    tables.create_tables(workspace, [schema.PUBLISHED])
    rows = [
        {
            schema.DATE: today,
            schema.RUN: f"run-{version}",
            schema.MODEL_VERSION: version,
            schema.NUM_USERS: 5,
            schema.PUBLISHED_AT: now,
        }
        for version in ("9", "10")
    ]
    found = pa.Table.from_pylist(rows, schema=schema.PUBLISHED.columns)
    write_deltalake(workspace.table_uri(schema.PUBLISHED), found, mode="append")
    assert [(one.users, one.model_version) for one in history(workspace).published] == [(10, "10")]


def test_an_error_is_told(page: Any, site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(page, site)
    monkeypatch.setattr(site.app.state.connections.admission, "_most", 0)
    page.locator("#values").get_by_role("button", name="5 of 5").click()
    page.get_by_text("the queue is full").wait_for()
    assert page.locator("#problem").is_visible()
    monkeypatch.undo()
    page.get_by_role("button", name="I don’t know it").click()
    page.locator("#problem").wait_for(state="hidden")
    assert "the queue is full" not in page.locator("main").inner_text()
