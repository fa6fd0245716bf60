"""Comma-separated values."""

from recmeta.logs.reading.separated import separated

FORMAT = separated(",", endings=(".csv",))
