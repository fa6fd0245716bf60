"""Whether lower is better, by the name of a protocol's column, such as `mae_rounded`."""

ERRORS = ("mae", "mae_rounded", "rmse")


def is_error(metric: str) -> bool:
    """Return whether lower is better."""
    return metric in ERRORS
