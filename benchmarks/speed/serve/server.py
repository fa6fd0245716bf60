"""The server of the load test: the endpoint as `recmeta serve` runs it, with a model of the
benchmark's own instead of a registry's."""

import sys

from benchmarks.speed.serve.models import model_of
from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.app import create_app
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.server import bound, serve


class FixedSource:
    """Always the same champion."""

    def __init__(self, champion: ServedChampion) -> None:
        self.champion = champion

    def newest(self) -> str:
        """Return its version."""
        return self.champion.version

    def load(self, version: str) -> ServedChampion:
        """Return it."""
        return self.champion


def main(learner: str, port: int) -> None:
    """Serve until a signal comes."""
    config = EndpointConfig()
    source = FixedSource(ServedChampion.of("1", model_of(learner).model))
    app = create_app(source, keys=None, config=config)
    serve(app, bound("127.0.0.1", port), config)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
