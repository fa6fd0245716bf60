"""How long steps show that they are getting on; drawn by `recmeta.reporting.progress_bars`."""

from recmeta.reporting.progress_bars import shown_progress

__all__ = ["shown_progress"]
