"""The endpoint keeps what its own OpenAPI promises, whatever is sent."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from served import KEY, Served

NUM_EXAMPLES = 15
BY_MODEL = {
    "POST /v1/recommendations",
    "POST /v1/recommendations/batch",
    "POST /v1/questions",
    "POST /v1/events",
}
"""What these take depends on the model, which no schema knows: its range of values, its profile."""


def test_every_operation_is_fuzzed(served: Served) -> None:
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


def _fuzz(operation: schemathesis.APIOperation) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def sent(case: schemathesis.Case) -> None:
        case.call_and_validate(
            headers={"Authorization": f"Bearer {KEY}"},
            excluded_checks=[positive_data_acceptance] if operation.label in BY_MODEL else None,
        )

    sent()
