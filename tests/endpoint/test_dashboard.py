"""Grafana's dashboard and Prometheus' alerts ask for what a running `/metrics` has."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from served import Served

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = re.compile(r"\b(?:recmeta_\w+|up)\b")
MADE_BY_PROMETHEUS = {"up": {"job", "instance"}}
OF_THE_TARGET = {"job", "instance"}


def queries() -> Iterator[tuple[str, str]]:
    """Yield what each panel, the annotations and each alert ask, by where it stands."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "recmeta.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        yield f"variable {variable['name']}", variable["query"]["query"]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        yield f"alert {rule['alert']}", rule["expr"]


QUERIES = list(queries())


@pytest.fixture(scope="module")
def metrics(served: Served) -> dict[str, set[str]]:
    """The names of all series of a running endpoint, and their labels, as far as it has samples."""
    served.ask(("i01", 5.0))
    text = served.client.get("/metrics").text
    found: dict[str, set[str]] = {k: set(v) for k, v in MADE_BY_PROMETHEUS.items()}
    endings = {
        "histogram": ("_bucket", "_sum", "_count"),
        "counter": ("_total",),
        "gauge": ("",),
    }
    for family in text_string_to_metric_families(text):
        for ending in endings.get(family.type, ()):
            found[f"{family.name}{ending}"] = set()
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_asks_for_metrics_that_are_there(
    metrics: dict[str, set[str]], where: str, query: str
) -> None:
    names = NAME.findall(query)
    assert names, where
    for name in names:
        assert name in metrics, (where, name)
    for name, selector in re.findall(r"\b(recmeta_\w+|up)\{([^}]*)\}", query):
        labels = {part.split("=")[0].strip(" ~!") for part in selector.split(",")}
        assert labels <= metrics[name] | OF_THE_TARGET or not metrics[name], (where, name, labels)


def test_the_images_health_check_tells_a_running_endpoint_from_none(served: Served) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    text = re.search(r"(?s)HEALTHCHECK [^\[]*CMD (\[.*?\])\n", dockerfile)
    assert text is not None
    command = [sys.executable, *json.loads(text[1])[1:]]
    place = served.url.removeprefix("http://")
    here = [part.replace("127.0.0.1:8000", place) for part in command]
    assert subprocess.run(here, check=False, capture_output=True).returncode == 0
    nowhere = [part.replace("127.0.0.1:8000", "127.0.0.1:1") for part in command]
    assert subprocess.run(nowhere, check=False, capture_output=True).returncode != 0
