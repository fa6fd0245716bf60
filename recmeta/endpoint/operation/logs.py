"""Logs as JSON, a line per request. No ids of users or items, no interactions, no keys."""

import datetime
import json
import logging
import sys
from typing import Any

from recmeta.errors.secrets import masked_values, secrets_of_environment

LOGGER = "recmeta.endpoint"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, event, and the record's `fields`."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets = secrets_of_environment()  # once: there is a line for each request

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        said: dict[str, Any] = {"event": record.getMessage(), **getattr(record, "fields", {})}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        line = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **masked_values(said, self._secrets),
        }
        return json.dumps(line, ensure_ascii=False)


def log_json() -> None:
    """Send the endpoint's and the server's logs to standard error, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER, "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == LOGGER else logging.WARNING)
