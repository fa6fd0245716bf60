"""How long to wait for object stores, the same for each of the libraries that use them.

A request may take `REQUEST_SECONDS`, also for a part of a large file, and is retried for
`RETRY_SECONDS`. A server that accepts connections and never answers is therefore given up on within
two minutes, whichever library asks. By default, deltalake and PyArrow's client would wait for three
minutes, and Polars for ever.
"""

import os

import pyarrow.fs as pafs

CONNECT_SECONDS = 5
REQUEST_SECONDS = 20
RETRY_SECONDS = 40
STALL_SECONDS = 10
MAX_ATTEMPTS = 3
"""PyArrow's client gives a request up when no byte came for this long, and after this many
attempts."""


def storage_options(location: str) -> dict[str, str] | None:
    """Return what deltalake and Polars take beside an address; None for a local path.

    `AWS_TIMEOUT` and `AWS_CONNECT_TIMEOUT`, such as `60s`, take precedence if they are set.
    """
    if "://" not in location or location.startswith("file://"):
        return None
    return {
        "timeout": os.environ.get("AWS_TIMEOUT") or f"{REQUEST_SECONDS}s",
        "connect_timeout": os.environ.get("AWS_CONNECT_TIMEOUT") or f"{CONNECT_SECONDS}s",
        "retry_timeout": f"{RETRY_SECONDS}s",
    }


def with_timeouts(filesystem: pafs.FileSystem) -> pafs.FileSystem:
    """Return an S3 file system that gives up on a silent server; any other is returned
    unchanged."""
    if not isinstance(filesystem, pafs.S3FileSystem):
        return filesystem
    _, (options,) = filesystem.__reduce__()
    options |= {"connect_timeout": CONNECT_SECONDS, "request_timeout": STALL_SECONDS}
    options["retry_strategy"] = pafs.AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS)
    return pafs.S3FileSystem(**options)
