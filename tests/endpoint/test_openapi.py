"""The endpoint keeps what its own OpenAPI promises, whatever is sent.

schemathesis takes seconds to import: only the process that runs the one test of it does so.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings
from served import KEY, Served

if TYPE_CHECKING:
    import schemathesis

NUM_EXAMPLES = 15
BY_MODEL = {
    "POST /v1/recommendations",
    "POST /v1/recommendations/batch",
    "POST /v1/questions",
    "POST /v1/events",
}
"""What these take depends on the model, which no schema knows: its range of values, its profile."""


def test_every_operation_is_fuzzed(served: Served) -> None:
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.label for operation in operations} >= {
        "POST /v1/recommendations",
        "POST /v1/recommendations/batch",
        "POST /v1/questions",
        "POST /v1/events",
        "GET /v1/items",
        "GET /v1/similar/{item_id}",
        "GET /v1/model",
        "GET /readyz",
    }
    for operation in operations:
        _fuzz(operation)


def test_the_api_is_a_page_behind_a_key(served: Served) -> None:
    page = served.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text  # which the content security policy would not run
    for told in ("POST /v1/events", "GET /v1/similar/{item_id}", 'href="#Event"', 'id="Event"'):
        assert told in page.text
    links = set(re.findall(r'href="#(\w+)"', page.text))
    assert links <= set(re.findall(r'id="(\w+)"', page.text))
    assert {"RecommendationRequest", "Range", "Problem"} <= links


def _fuzz(operation: "schemathesis.APIOperation") -> None:
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    @given(case=operation.as_strategy())
    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def sent(case: "schemathesis.Case") -> None:
        case.call_and_validate(
            headers={"Authorization": f"Bearer {KEY}"},
            excluded_checks=[positive_data_acceptance] if operation.label in BY_MODEL else None,
        )

    sent()


def test_the_documented_answer_has_the_fields_of_a_real_one(served: Served) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "serving.md").read_text()
    sample = re.search(r'(?s)\n    (\{"model_version": .*?"warnings": \[\]\})\n', page)
    assert sample is not None
    documented, real = json.loads(sample[1]), served.ask(("i01", 5.0), ("i02", 2.0), top_k=2)
    assert list(documented) == list(real)
    one, other = documented["recommendations"][0], real["recommendations"][0]
    assert list(one) == list(other)
    assert list(one["reasons"][0]) == list(other["reasons"][0])
