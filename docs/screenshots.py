"""Take the pictures of the docs from the real pages, in a headless browser.

    make airflow                      # and trigger build_tasks; let the others follow
    feast --chdir feature_store ui    # of the same workspace
    make app
    python docs/screenshots.py --workspace workspace --browser /usr/bin/chromium
    python docs/screenshots.py app    # only those of one

Needs `pip install playwright` and a Chromium.
"""

import argparse
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1440, "height": 810}
SETTLE_MS = {"airflow": 8000, "mlflow": 8000, "feast": 8000, "app": 1000}
"""Pages ask for more and more after they are loaded, and lay out graphs; some never go quiet."""
APP_SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 360, "height": 740}}
APP_ANSWERS = (5, 2, 4)


def call(url: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
    """Return the JSON answer of a REST call."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.loads(answer.read())


def airflow_login(workspace: Path) -> tuple[str, str]:
    """Return the user and password that Airflow made for itself."""
    kept = workspace / "airflow" / "simple_auth_manager_passwords.json.generated"
    user, password = next(iter(json.loads(kept.read_text()).items()))
    return user, password


def airflow_shots(page: Page, url: str, user: str, password: str) -> Iterator[str]:
    """Log in and open one page after the other; yield the name of each picture."""
    login = {"username": user, "password": password}
    token = call(f"{url}/auth/token", login)["access_token"]

    def last_run(dag: str) -> str:
        query = "order_by=-start_date&limit=1&state=success"
        found = call(f"{url}/api/v2/dags/{dag}/dagRuns?{query}", token=token)
        return urllib.parse.quote(found["dag_runs"][0]["dag_run_id"])

    page.goto(f"{url}/auth/login")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    page.evaluate("localStorage.setItem('default_dag_view', '\"graph\"')")
    for dag in ("build_tasks", "meta_train", "cold_start_scoring"):
        page.goto(f"{url}/dags/{dag}/runs/{last_run(dag)}")
        yield f"airflow-{dag}"
    assets = call(f"{url}/api/v2/assets", token=token)["assets"]
    tasks = next(asset["id"] for asset in assets if asset["name"] == "tasks")
    page.goto(f"{url}/assets/{tasks}")
    yield "airflow-assets"


def mlflow_shots(page: Page, url: str) -> Iterator[str]:
    """Open the champion's training run and its version; yield the name of each picture."""
    api = f"{url}/api/2.0/mlflow"
    found = call(f"{api}/registered-models/alias?name=recmeta&alias=champion")["model_version"]
    run = call(f"{api}/runs/get?run_id={found['run_id']}")["run"]["info"]
    page.goto(url)
    page.evaluate("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    page.evaluate("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
    page.goto(f"{url}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}")
    page.reload()
    yield "mlflow-run"
    page.goto(f"{url}/#/models/recmeta/versions/{found['version']}")
    yield "mlflow-version"


def feast_shots(page: Page, url: str) -> Iterator[str]:
    """Open the feature service's lineage; yield the name of the picture."""
    page.goto(f"{url}/p/recmeta/feature-service/melu_v1")
    yield "feast-service"


def app_shots(page: Page, url: str) -> Iterator[str]:
    """Answer some questions, open the owner's page, on a desk and on a phone; yield each picture's
    name."""
    for device, size in APP_SIZES.items():
        page.set_viewport_size(size)
        page.goto(url)
        for number, value in enumerate(APP_ANSWERS, start=1):
            page.locator("#values .value").nth(value - 1).click()
            follows = f"follows {number} answer"
            page.wait_for_function(
                "s => document.getElementById('live').textContent.includes(s)", arg=follows
            )
        page.mouse.move(0, 0)
        yield f"app-{device}"
        page.goto(f"{url}/owner")
        page.wait_for_selector("#steps tr")
        yield f"app-owner-{device}"


def main() -> None:
    """Take all pictures, or some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", choices=[*SETTLE_MS], help="default: all")
    parser.add_argument("--app", default="http://127.0.0.1:8000")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--airflow", default="http://127.0.0.1:8080")
    parser.add_argument("--mlflow", default="http://127.0.0.1:5000")
    parser.add_argument("--feast", default="http://127.0.0.1:8888")
    given = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=given.browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=SIZE)
        shots = {
            "airflow": lambda: airflow_shots(page, given.airflow, *airflow_login(given.workspace)),
            "mlflow": lambda: mlflow_shots(page, given.mlflow),
            "feast": lambda: feast_shots(page, given.feast),
            "app": lambda: app_shots(page, given.app),
        }
        for group in given.only or shots:
            for name in shots[group]():
                page.wait_for_load_state()
                page.wait_for_timeout(SETTLE_MS[group])
                page.screenshot(path=IMAGES / f"{name}.png", full_page=group == "app")
        browser.close()


if __name__ == "__main__":
    main()
