"""Data sets from frames, matrices and files, and results as frames."""
