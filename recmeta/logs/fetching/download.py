"""Getting the complete files of public data sets from the web, a wheel or a local copy."""

import base64
import contextlib
import errno
import hashlib
import http.client
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from recmeta.errors import UserError
from recmeta.logs.limits import check_download, check_unpacked
from recmeta.progress import Progress
from recmeta.workspace.folder import sync_folder

CONNECT_SECONDS = 5
PIP_SECONDS = 300
_BLOCK = 1024 * 1024
_BROKEN = (
    OSError,
    EOFError,
    NotImplementedError,  # a way of packing that Python does not know
    RuntimeError,  # a password is asked for
    UnicodeError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors that reading a zip file raises if it is not complete."""
_OWN_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE)
"""Errors of the machine, not of the server."""


class NotAvailableError(Exception):
    """A source of a data set cannot be reached, or gave something else, which the message names."""


def download(
    url: str,
    target: Path,
    sha256: str | None,
    progress: Progress,
    *,
    timeout: float = CONNECT_SECONDS,
) -> None:
    """Download a file, and give it its name only if it is complete and has the right digest.

    Args:
        sha256: of the file; None if its publisher's is not known.
        timeout: seconds that the server may take to answer, and to send the next bytes.

    Raises:
        NotAvailableError: if there is no answer in time, the file breaks off, or is another one.
        UserError: if it is larger than `limits` allow.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    digest, done = hashlib.sha256(), 0
    try:
        with (
            urllib.request.urlopen(_request(url), timeout=timeout) as response,  # nosec B310  # ours
            partial.open("wb") as file,
        ):
            length = response.headers.get("Content-Length") or ""
            total = int(length) if length.isascii() and length.isdigit() else 0
            check_download(url, total)
            while block := response.read(_BLOCK):
                file.write(block)
                digest.update(block)
                done += len(block)
                check_download(url, done)
                progress("downloading", done, max(done, total))
        if total and done != total:
            raise NotAvailableError(f"{url} broke off after {done} of {total} bytes")
        if sha256 and digest.hexdigest() != sha256:
            raise NotAvailableError(f"{url} has SHA-256 {digest.hexdigest()}, not {sha256}")
        os.replace(partial, target)
        sync_folder(str(target.parent))
    except urllib.error.HTTPError as error:
        raise NotAvailableError(f"{url}: {error}") from error  # with the status
    except http.client.HTTPException as error:
        raise NotAvailableError(f"{url}: the answer is not HTTP ({error!r})") from error
    except OSError as error:  # what urllib raises, too
        if error.errno in _OWN_DISK:
            raise
        raise NotAvailableError(f"{url}: {getattr(error, 'reason', error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def _request(url: str) -> urllib.request.Request:
    """Return the request for a URL; a user and a password in it become a header, which is not sent
    to another server to which this one may redirect."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))
    if user:
        encoded = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {encoded}")
    return request


def download_wheel(requirement: str, folder: Path, sha256: str) -> Path:
    """Download one wheel from the package index that pip is set up for, without installing it.

    Raises:
        NotAvailableError: if pip cannot get it, or gets another file.
    """
    command = [sys.executable, "-P", "-m", "pip", "download", requirement, "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    try:
        done = subprocess.run(  # nosec B603  # a list, no shell; requirements are those of `datasets`
            command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotAvailableError(f"pip download {requirement} took too long") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last_line = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
        raise NotAvailableError(f"pip download {requirement}: {last_line}")
    if sha256_of(wheels[0]) != sha256:
        raise NotAvailableError(f"{wheels[0].name} from the package index has another SHA-256")
    return wheels[0]


def member_names(place: Path) -> set[str]:
    """Return the names of the files at any depth in a zip file or a folder.

    Raises:
        UserError: if `place` is neither.
    """
    if place.is_dir():
        return {path.name for path in place.rglob("*") if path.is_file()}
    with _open_zip(place) as archive:
        return set(_members(archive))


def copy_members(place: Path, names: Iterable[str], target: Path) -> None:
    """Copy plain files, found by their names at any depth, out of a zip file or a folder.

    Raises:
        UserError: if `place` is neither, breaks off, lacks one of the files, or unpacks to more
            than `limits` allow.
    """
    missing = set(names) - member_names(place)
    if missing:
        raise UserError(f"{str(place)!r} lacks {', '.join(sorted(missing))}.")
    if place.is_dir():
        files = (path for path in place.rglob("*") if path.is_file())
        paths = {path.name: path for path in sorted(files, reverse=True)}
        for name in names:
            shutil.copyfile(paths[name], target / name)
        return
    with _open_zip(place) as archive:
        members = _members(archive)
        size, done = place.stat().st_size, 0
        check_unpacked(str(place), size, sum(members[name].file_size for name in names))
        for name in names:
            with archive.open(members[name]) as packed, (target / name).open("wb") as file:
                while block := packed.read(_BLOCK):
                    done += len(block)
                    check_unpacked(str(place), size, done)  # what stands in it may be wrong
                    file.write(block)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the plain files of an archive by their names without folders; of several with one
    name, the first."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        mode = member.external_attr >> 16
        if not member.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG):
            found.setdefault(member.filename.rsplit("/", 1)[-1], member)
    return found


@contextlib.contextmanager
def _open_zip(place: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(place) as archive:
            yield archive
    except _BROKEN as error:
        raise UserError(
            f"{str(place)!r} is neither a folder nor a whole zip file: {error}"
        ) from error


def move_into_place(folder: Path, target: Path) -> None:
    """Rename a finished folder to `target`, which it replaces."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent))
        os.replace(target, old / target.name)
        shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, target)
    sync_folder(str(target.parent))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
