"""The formats of logs, by name: one in each file, found without being imported."""

from typing import Any

from recmeta.plugins import Registry

FORMATS: Registry[Any] = Registry("format", package="recmeta.logs.formats", attribute="FORMAT")
"""Each is a `recmeta.logs.reading.log_format.LogFormat`: a type that knows mappings, which know
these names."""
