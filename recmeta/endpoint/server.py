"""Runs the application until a signal stops it."""

import contextlib
import errno
import functools
import logging
import os
import resource
import socket
import sys
import threading
from types import FrameType
from typing import Any, cast

import psutil
import torch
import uvicorn
from fastapi import FastAPI

from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.guard.http import Connection
from recmeta.endpoint.operation.logs import log_json
from recmeta.errors import UserError

SWITCH_SECONDS = 0.0001
"""How long the thread that computes may hold the interpreter before the one that answers gets it;
Python's default of 5 ms would be a quarter of the allowed latency."""
BACKLOG = 1_024
"""The most connections that may wait to be accepted; the clients' systems retry further ones."""
ACCEPTED_AT_ONCE = 32
"""The most connections that are accepted before earlier ones are read: a flood of connections must
not displace one whose request has already arrived."""
RESERVED_FILES = 256
"""Open files besides connections: libraries, tables and models while they are read, logs."""
GRACE = 0.8
"""The share of the time to stop that requests in flight may take."""
log = logging.getLogger("recmeta.endpoint.server")


def bound(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address. This is done before anything is loaded, so that a
    failure comes at once. The socket does not listen yet, so that a server that is still loading
    does not seem ready.

    Args:
        port: 0 takes a free one.

    Raises:
        UserError: if the address cannot be bound; the message says why and what to do.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"the host {host!r} is not an address ({error}): give an address of this machine, such "
            "as 127.0.0.1, or 0.0.0.0 for all of them."
        ) from error
    found = socket.socket(family, kind)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        raise UserError(_why_not(host, port, error)) from error
    return found


def serve(app: FastAPI, address: socket.socket, config: EndpointConfig) -> None:
    """Serve until SIGTERM or SIGINT; then refuse new connections and finish what is in flight.

    The process ends within `shutdown_seconds` of the signal; if something hangs, it is abandoned,
    and the exit code is 1.

    Args:
        address: of `bound`.

    Raises:
        UserError: if the process may not open as many files as there may be connections, or another
            process has meanwhile begun to listen at the address.
    """
    allow_files(config.max_connections)
    try:
        address.listen(BACKLOG)
    except OSError as error:
        host, port = address.getsockname()[:2]
        raise UserError(_why_not(host, port, error)) from error
    log_json()
    torch.set_num_threads(1)  # one thread computes; the other core is for HTTP
    sys.setswitchinterval(SWITCH_SECONDS)
    with contextlib.suppress(KeyboardInterrupt):  # raised once more, when all is finished
        Server(app, config).run([address])


def allow_files(num_connections: int) -> None:
    """Let the process open as many files as it needs for its connections.

    Raises:
        UserError: if the system does not let it.
    """
    needed = num_connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"{num_connections:,} connections need {needed:,} open files, and this process may "
            f"have {hard:,} at most: raise the hard limit (`ulimit -Hn`, systemd's LimitNOFILE=), "
            f"or give --limit max_connections={max(1, hard - RESERVED_FILES)}."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Server(uvicorn.Server):
    """Uvicorn with limited connections and a shutdown that ends in time."""

    def __init__(self, app: FastAPI, config: EndpointConfig) -> None:
        """
        Args:
            app: of `create_app` with the same configuration.
        """
        self._shutdown_seconds = config.shutdown_seconds
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(Any, functools.partial(Connection, app.state.connections)),
                loop="asyncio",  # the same wherever it is installed
                ws="none",
                lifespan="on",
                interface="asgi3",
                backlog=ACCEPTED_AT_ONCE,  # asyncio takes it for both
                proxy_headers=False,  # anybody can write them
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, int(GRACE * config.shutdown_seconds)),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        for one in sockets or []:
            one.listen(BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and have the process end in time, whatever may hang."""
        if not self.should_exit:
            watch = threading.Timer(self._shutdown_seconds, self._end)
            watch.daemon = True
            watch.start()
        super().handle_exit(sig, frame)

    def _end(self) -> None:
        hanging = sorted(
            t.name for t in threading.enumerate() if t is not threading.current_thread()
        )
        fields = {"seconds": self._shutdown_seconds, "threads": hanging}
        log.error("the server did not stop in time and was ended", extra={"fields": fields})
        sys.stderr.flush()
        os._exit(1)


def _why_not(host: str, port: int, error: OSError) -> str:
    """Return why a socket cannot listen at an address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use{_holder_of(port)}: stop what serves there, or give "
            f"another port, such as --port {port + 1 if port < 65_535 else port - 1}."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"this user may not listen at port {port} of {host}: ports below 1024 are the "
            "system's. Give a higher port, such as --port 8000, and let a proxy in front pass "
            "requests on to it."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{host} is not an address of this machine: give one that is, such as 127.0.0.1, or "
            "0.0.0.0 for all of them."
        )
    return f"cannot listen at port {port} of {host}: {error.strerror or error}."


def _holder_of(port: int) -> str:
    """Return whose port it is, as far as this user may see."""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
                return f" by the process {one.pid} ({psutil.Process(one.pid).name()})"
    return ""
