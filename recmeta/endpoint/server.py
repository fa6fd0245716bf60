"""Runs the application until a signal stops it."""

import contextlib
import sys

import torch
import uvicorn
from fastapi import FastAPI

from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.operation.logs import log_json

SWITCH_SECONDS = 0.0005
"""How long the thread that computes may keep the interpreter from the one that answers; Python's
5 ms would be a quarter of the whole latency allowed."""


def serve(app: FastAPI, *, host: str, port: int, config: EndpointConfig) -> None:
    """Serve until SIGTERM or SIGINT; then refuse new connections and finish what is in flight."""
    log_json()
    torch.set_num_threads(1)  # one thread computes; the other core is for HTTP
    sys.setswitchinterval(SWITCH_SECONDS)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(config.shutdown_seconds) or 1,
        )
    )
    with contextlib.suppress(KeyboardInterrupt):  # raised once more, when all is finished
        server.run()
