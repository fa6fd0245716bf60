"""Frames, matrices and files become data sets; answers become frames."""
