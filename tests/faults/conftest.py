"""Faults injected into real commands, counted."""

from collections.abc import Iterator

import pytest
from counting import Faults


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Iterator[Faults]:
    """Count the faults that a test injects."""
    test = request.node.nodeid.partition("[")[0]
    counted = Faults(f"RECMETA_FAULTS=1 python -m pytest {test}")
    yield counted
    counted.finish()
