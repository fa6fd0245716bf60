"""Tab-separated values."""

from recmeta.logs.reading.separated import separated

FORMAT = separated("\t", endings=(".tsv",))
