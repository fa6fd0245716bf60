"""Packed files and archives, and what a file is by its first bytes."""

import lzma
import os
import struct
import zipfile
import zlib
from typing import Any

import pyarrow as pa

from recmeta.errors import UserError

ENDINGS = (".gz", ".bz2", ".zst", ".xz")
"""The endings of packed files."""
ARCHIVE = ".zip"
BROKEN_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, pa.ArrowException),
    *(NotImplementedError, RuntimeError, ValueError, KeyError, struct.error),
)
"""What reading a zip archive raises if it is broken, locked, or packed in an unknown way."""
_MAGIC = 8
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
}
_NO_TEXT = {
    b"PAR1": "a Parquet file: use --format parquet",
    b"PK\x03\x04": "an Excel workbook, or a zip archive of another name: use --format excel, or "
    "give the archive the ending .zip",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: use --format excel",
    b"SQLite f": "an SQLite database: write its table as CSV (sqlite3 -header -csv)",
    b"ARROW1": "an Arrow (Feather) file: write it as Parquet (polars.read_ipc(FILE).write_parquet)",
    b"FEA1": "a Feather file: write it as Parquet (pandas.read_feather(FILE).to_parquet)",
    b"Obj\x01": "an Avro file: write it as Parquet (polars.read_avro(FILE).write_parquet)",
    b"ORC": "an ORC file: write it as Parquet (pyarrow.orc)",
    b"\x89HDF": "an HDF5 file: write its table as Parquet",
    b"\x80\x04\x95": "a pickle, which is not read: write it as Parquet (DataFrame.to_parquet)",
    b"\x80\x05\x95": "a pickle, which is not read: write it as Parquet (DataFrame.to_parquet)",
    b"%PDF": "a PDF file, which is not a log",
}


def unpacked(stored: Any) -> Any:
    """Return a stream of a seekable stream's content, unpacked if it is packed."""
    head = stored.read(_MAGIC)
    stored.seek(0)
    for magic, codec in _PACKED.items():
        if head.startswith(magic):
            return (
                lzma.LZMAFile(stored)
                if codec == "xz"
                else pa.CompressedInputStream(
                    stored if isinstance(stored, pa.NativeFile) else pa.PythonFile(stored, "r"),
                    codec,
                )
            )
    return stored


def check_is_text(head: bytes, name: str) -> None:
    """Raise UserError if the first bytes of a file are not those of text."""
    for magic, what in _NO_TEXT.items():
        if head.startswith(magic):
            raise UserError(f"{name!r} is not text but {what}.")


def what_else(head: bytes) -> str:
    """Return in words what a file that is not text is; empty if it may be text."""
    return next((what for magic, what in _NO_TEXT.items() if head.startswith(magic)), "")


def members(archive: Any, name: str) -> list[tuple[str, int]]:
    """Return the names and packed sizes of the files in a zip archive, sorted, without hidden ones.

    Raises:
        UserError: if it is not a zip archive, or is locked by a password.
    """
    with _opened(archive, name) as opened:
        entries = [entry for entry in opened.infolist() if not entry.filename.endswith("/")]
    if any(entry.flag_bits & 1 for entry in entries):
        raise UserError(
            f"{name!r} is protected by a password: unpack it, and name the file inside."
        )
    return sorted(
        (entry.filename, entry.compress_size)
        for entry in entries
        if entry.filename and not is_hidden(entry.filename)
    )


def member_of(archive: Any, member: str, name: str) -> Any:
    """Return a stream of a file in a zip archive."""
    try:
        return _opened(archive, name).open(member)
    except BROKEN_ARCHIVE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"cannot read {member!r} of {name!r}: {error}. Unpack it, and name the file inside."
        ) from error


def is_hidden(path: str) -> bool:
    """Whether a file is not part of the log: one of Spark's or macOS' own, or in a folder of
    theirs."""
    return any(part.startswith((".", "_")) for part in path.replace(os.sep, "/").split("/"))


def _opened(archive: Any, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except BROKEN_ARCHIVE as error:
        raise UserError(f"{name!r} is not a complete zip archive: {error}.") from error
