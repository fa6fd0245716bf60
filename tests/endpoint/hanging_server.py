"""A server of which everything hangs that can: its registry and its online store wait for servers
that never answer, and so do a batch and a thread that does not let the process go."""

import json
import socket
import sys
import threading

from benchmarks.speed.serve.models import model_of
from benchmarks.speed.serve.server import FixedSource
from recmeta.config import parse
from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.app import create_app
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.server import bound, serve


def hang(*given: object) -> dict[str, dict[str, object]]:
    """Wait for an answer that never comes."""
    with socket.create_connection(("127.0.0.1", SILENT)) as connection:
        connection.recv(1)
    return {}


class HangingSource(FixedSource):
    """Its registry hangs."""

    def newest(self) -> str:
        """Never return."""
        hang()
        return super().newest()


if __name__ == "__main__":
    port, SILENT = int(sys.argv[1]), int(sys.argv[2])
    config = parse(EndpointConfig, json.loads(sys.argv[3]))
    champion = ServedChampion.of("1", model_of("bayesian-linear").model)
    app = create_app(HangingSource(champion), keys=None, config=config, online=hang, first=champion)
    threading.Thread(target=hang, name="does-not-let-go").start()
    with bound("127.0.0.1", port) as address:
        serve(app, address, config)
