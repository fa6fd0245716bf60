"""`recmeta export`, called with what does not go together."""

import pytest
from cli_calls import Call


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((), "add --onnx DIR or --vectors DIR"),
        (("new.csv", "--onnx", "device"), "has users, whom only --vectors DIR exports"),
        (("--page", "--vectors", "vectors"), "--page and --onnxruntime-web need --onnx DIR"),
        (("--vectors", "vectors", "-w", "nowhere"), "there is no workspace at"),
    ],
)
def test_what_is_missing_is_named(recmeta: Call, given: tuple[str, ...], says: str) -> None:
    found = recmeta("export", *given)
    assert found.code == 2
    assert says in " ".join(found.stderr.split())
