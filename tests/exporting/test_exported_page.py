"""The exported page in a real browser: it ranks on the device as the server does, and sends
nothing."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from random_models import on_bayes, random_model, with_every_column

from recmeta.errors import UserError
from recmeta.exporting.page import (
    RUNTIME_FILES,
    RUNTIME_FOLDER,
    page_files,
    runtime_files,
)
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import WeightedRidgeConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.intake import GivenUser, Intake
from recmeta.serving.ranking import Ranker, ScoringConfig, adapt_users
from recmeta.tasks.task_set import TaskSet

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PACKAGE = "onnxruntime-web@1.30.0"


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    files = page_files()
    html = files["index.html"].decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    linked = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert linked
    assert set(linked) <= set(files)
    for name, content in files.items():
        assert not re.findall(r"https?://(?!www\.w3\.org/)", content.decode()), name
        for imported in re.findall(r'from "\./([^"]+)"', content.decode()):
            assert imported in files, name
    # Whatever the shared code looks up by its id is there.
    looked_up = re.findall(r'find\("([\w-]+)"\)', files["try.js"].decode())
    assert {f'id="{name}"' for name in looked_up} <= set(re.findall(r'id="[\w-]+"', html))


def test_a_package_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks ort\.wasm\.min\.mjs: name the folder of the npm"):
        runtime_files(str(tmp_path))
    (tmp_path / "dist").mkdir()
    for name in RUNTIME_FILES:
        (tmp_path / "dist" / name).write_bytes(name.encode())
    assert runtime_files(str(tmp_path)) == {name: name.encode() for name in RUNTIME_FILES}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of ONNX Runtime Web."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine's PATH")
    given = os.environ.get("RECMETA_ONNXRUNTIME_WEB")
    if given is not None:
        return runtime_files(given)
    if os.environ.get("RECMETA_SLOW") != "1" or shutil.which("npm") is None:
        pytest.skip("RECMETA_ONNXRUNTIME_WEB names the npm package, or RECMETA_SLOW=1 fetches it")
    folder = tmp_path_factory.mktemp("npm")
    subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, capture_output=True)
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        packed.extractall(folder, filter="data")
    return runtime_files(str(folder / "package"))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and notes what is asked for."""

    asked: list[tuple[str, str]]

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        self.asked.append((self.command, self.path))


def write_site(model: Model, folder: Path, runtime: dict[str, bytes]) -> None:
    from recmeta.exporting.description import description
    from recmeta.exporting.ranking_graph import ranking_graph

    (folder / RUNTIME_FOLDER).mkdir(parents=True)
    for name, content in page_files().items():
        (folder / name).write_bytes(content)
    for name, content in runtime.items():
        (folder / RUNTIME_FOLDER / name).write_bytes(content)
    (folder / "model.onnx").write_bytes(ranking_graph(model, {}).SerializeToString())
    (folder / "model.json").write_text(json.dumps(description(model, "7")))


@pytest.fixture
def opened(
    request: pytest.FixtureRequest,
    rated: TaskSet,
    clicked: TaskSet,
    runtime: dict[str, bytes],
    tmp_path: Path,
) -> Iterator[tuple[Any, Model, list[tuple[str, str]]]]:
    """A page that is open on a phone, its model, and what has been asked of its server."""
    from playwright.sync_api import sync_playwright

    if request.param == "ratings":
        model = with_every_column(on_bayes(rated), rated, in_order=True, graded=True)
    else:
        model = random_model(clicked, "weighted-ridge", WeightedRidgeConfig(num_factors=3))
        model = with_every_column(model, clicked, in_order=True, graded=False)
    write_site(model, tmp_path / "below" / "device", runtime)
    asked: list[tuple[str, str]] = []
    handler = functools.partial(type("H", (Handler,), {"asked": asked}), directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    complaints: list[str] = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 360, "height": 740})
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/below/device/index.html")
            page.wait_for_selector("#list li", timeout=60_000)
            yield page, model, asked
            browser.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert complaints == []


def ranked(model: Model, answers: list[tuple[str, float | None]]) -> list[str]:
    """Return the titles of the list that the server makes of these answers."""
    scorer = Scorer.of(model)
    user = GivenUser(
        item_id=tuple(item for item, _ in answers),
        value=tuple(value for _, value in answers),
        time=tuple(range(len(answers))),
    )
    users = adapt_users(scorer, Intake(model).tasks([user]))
    numbers = Ranker(scorer, ScoringConfig(top_k=10)).rank(users).item_Bk[0]
    names = model.catalogue.items.names().to_pylist()
    return [names[n] for n in numbers]


def listed(page: Any) -> list[str]:
    return [
        re.sub(r"(new|↑\d+was \d+|↓\d+was \d+)$", "", text)
        for text in page.locator("#list .title").all_text_contents()
    ]


def value_of(button: Any) -> float:
    """Return the rating that a button stands for, as its label says."""
    return float(button.get_attribute("aria-label").rsplit(": ", 1)[1].split(" of ")[0])


@pytest.mark.parametrize("opened", ["ratings"], indirect=True)
def test_a_list_of_ratings_follows_each_answer_and_nothing_is_sent(
    opened: tuple[Any, Model, list[tuple[str, str]]],
) -> None:
    page, model, asked = opened
    assert listed(page) == ranked(model, [])
    before = len(asked)
    assert {method for method, _ in asked} == {"GET"}
    assert all(path.startswith("/below/device/") for _, path in asked)
    ids = model.catalogue.items.item_id.to_pylist()
    names = dict(zip(model.catalogue.items.names().to_pylist(), ids, strict=True))
    answers: list[tuple[str, float | None]] = []
    for place in (4, 0):
        question = page.locator("#asked").inner_text()
        button = page.locator("#values .value").nth(place)
        answers.append((names[question.removeprefix("How do you like ")[:-1]], value_of(button)))
        button.click()
        page.wait_for_function(f"document.querySelectorAll('#answers li').length == {len(answers)}")
        assert listed(page) == ranked(model, answers)
    title = next(name for name in names if names[name] not in dict(answers))
    page.fill("#query", title)
    page.wait_for_selector("#found li")
    button = page.locator("#found li").first.locator(".value").nth(3)
    answers.append((names[title], value_of(button)))
    button.click()
    page.wait_for_function("document.querySelectorAll('#answers li').length == 3")
    assert listed(page) == ranked(model, answers)
    assert len(asked) == before, "an answer asked the server for something"
    assert page.locator("#version").inner_text().startswith("Version 7 of the model, 40 items.")


@pytest.mark.parametrize("opened", ["clicks"], indirect=True)
def test_a_list_of_likes_follows(opened: tuple[Any, Model, list[tuple[str, str]]]) -> None:
    page, model, asked = opened
    ids = model.catalogue.items.item_id.to_pylist()
    names = dict(zip(model.catalogue.items.names().to_pylist(), ids, strict=True))
    before = len(asked)
    question = page.locator("#asked").inner_text().removeprefix("Do you like ")[:-1]
    page.click("text='I like it'")
    page.wait_for_function("document.querySelectorAll('#answers li').length == 1")
    assert listed(page) == ranked(model, [(names[question], None)])
    assert len(asked) == before
