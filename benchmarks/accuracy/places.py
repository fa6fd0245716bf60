"""Where data sets are."""

import os
from pathlib import Path

from benchmarks.accuracy.datasets import ENVIRONMENT


def folder_of(dataset: str, data: Path | None) -> Path:
    """Return the folder of a data set.

    Args:
        data: folder with the data sets; None: $RECMETA_SHARED_DATA, else ../shared/data.
    """
    return (data or Path(os.environ.get(ENVIRONMENT) or "../shared/data")) / dataset
