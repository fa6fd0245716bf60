"""Settling: deduplicating any number of good rows of a source against each other and the table."""
