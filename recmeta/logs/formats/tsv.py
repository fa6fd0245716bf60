"""Tab-separated values."""

from recmeta.logs.separated import separated

FORMAT = separated("\t", endings=(".tsv",))
