"""Which way is better, by the name of a column of the protocols, `mae_rounded` among them."""

ERRORS = ("mae", "mae_rounded", "rmse")


def is_error(metric: str) -> bool:
    """Return whether lower is better."""
    return metric in ERRORS
