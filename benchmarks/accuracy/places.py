"""The folders of data sets."""

import os
from pathlib import Path

from benchmarks.accuracy import fetched

ENVIRONMENT = "RECMETA_SHARED_DATA"


def folder_of(dataset: str, data: Path | None) -> Path:
    """Return the folder of a data set, which may be absent.

    Args:
        data: the folder with the data sets, or None for $RECMETA_SHARED_DATA or else
            ../shared/data. Data sets that are not there are downloaded, if possible.

    Raises:
        UserError: if the download fails.
    """
    place = (data or Path(os.environ.get(ENVIRONMENT) or "../shared/data")) / dataset
    if data is None and dataset in fetched.NAMES and not place.exists():
        return fetched.tables(dataset)
    return place
