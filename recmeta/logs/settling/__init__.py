"""Settling: the good rows of a source, of any number, against each other and against the table."""
