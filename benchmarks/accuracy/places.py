"""Where data sets are."""

import os
from pathlib import Path

from benchmarks.accuracy import fetched

ENVIRONMENT = "RECMETA_SHARED_DATA"


def folder_of(dataset: str, data: Path | None) -> Path:
    """Return the folder of a data set, which may be absent.

    Args:
        data: folder with the data sets; None: $RECMETA_SHARED_DATA, else ../shared/data. What is
            not there is fetched, where it can be.

    Raises:
        UserError: where fetching it fails.
    """
    place = (data or Path(os.environ.get(ENVIRONMENT) or "../shared/data")) / dataset
    if data is None and dataset in fetched.NAMES and not place.exists():
        return fetched.tables(dataset)
    return place
