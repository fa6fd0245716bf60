"""Comma-separated values."""

from recmeta.logs.separated import separated

FORMAT = separated(",", endings=(".csv",))
