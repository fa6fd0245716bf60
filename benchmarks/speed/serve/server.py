"""The server of the load test: the endpoint as `recmeta serve` runs it, with a model of the
benchmark's own instead of a registry's."""

import json
import sys
import threading

from benchmarks.speed.serve.models import model_of
from recmeta.config import parse
from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.app import create_app
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.guard.keys import read_keys
from recmeta.endpoint.server import bound, serve


class FixedSource:
    """Always the same champion."""

    def __init__(self, champion: ServedChampion) -> None:
        self.champion = champion

    def newest(self) -> str:
        """Return its version."""
        return self.champion.version

    def try_out(self, version: str, *, seconds: float, stopping: threading.Event) -> None:
        """It answers."""

    def load(self, version: str) -> ServedChampion:
        """Return it."""
        return self.champion


def main(learner: str, port: int, limits: str = "{}") -> None:
    """Serve until a signal comes, for those who have a key of the environment's, if it has any.

    Args:
        limits: values of `EndpointConfig`, as JSON.
    """
    config = parse(EndpointConfig, json.loads(limits))
    with bound("127.0.0.1", port) as socket:
        champion = ServedChampion.of("1", model_of(learner).model)
        app = create_app(FixedSource(champion), keys=read_keys(None), config=config, first=champion)
        serve(app, socket, config)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
