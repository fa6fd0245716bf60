"""Files that were packed to fill memory or a disk, or to be written elsewhere."""

import contextlib
import gzip
import io
import socket
import stat
import struct
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import ALL, Faults

from recmeta.errors import UserError
from recmeta.logs import limits
from recmeta.logs.fetching.download import NotAvailableError, copy_members, download
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import find_files
from recmeta.progress import silent

MEGABYTE = 1024**2
slow = pytest.mark.skipif(not ALL, reason="takes minutes (RECMETA_FAULTS=1)")
READ = """
import sys
from recmeta.errors import UserError
from recmeta.logs.checking import checked
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import find_files
from recmeta.progress import silent
import datetime, resource
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
mapping = LogMapping(path=sys.argv[1])
files, now = find_files(mapping), datetime.datetime.now(datetime.UTC)
before = peak()
try:
    for good, bad in checked.read_blocks(mapping, files, now, lambda *_: None):
        pass
    print("read")
except UserError as error:
    print(error)
print(peak() - before)
"""


def packed(content: bytes, times: int) -> bytes:
    """Many members, which a reader takes for one file."""
    return gzip.compress(content, compresslevel=6) * times


@pytest.mark.parametrize(
    ("header", "repeated", "message"),
    [
        (b"user_id,item_id\n", b"\0", "is not text"),
        (b"user_id,item_id\n", b"a", "is longer than"),
        pytest.param(b"user_id,item_id\n", b"\n", "unpacks to", marks=slow),
        pytest.param(b'user_id,item_id\n"', b"\n", "unpacks to", marks=slow),
        pytest.param(b"user_id,item_id\n", b",,\n", "unpacks to", marks=slow),
    ],
)
def test_a_log_that_unpacks_without_end_is_read_in_bounded_memory(
    tmp_path: Path, faults: Faults, header: bytes, repeated: bytes, message: str
) -> None:
    faults.inject("a packed log unpacks to far more than it has")
    path = tmp_path / "log.csv.gz"
    times = faults.number(sample=12, all_of_them=40)
    size = 8 * MEGABYTE // len(repeated)
    path.write_bytes(gzip.compress(header) + packed(repeated * size, times))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    told, peak = done.stdout.splitlines()[-2:]
    faults.check(message in told, told)
    faults.check(int(peak) < 1_000, f"{peak} MB for {repeated!r}")


def test_how_much_may_be_unpacked_is_set_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(packed(b"a,b\n" * (2 * MEGABYTE), 9))
    [file] = find_files(LogMapping(path=str(path)))

    def read() -> int:
        with file.open() as stream:
            return sum(len(block) for block in iter(lambda: stream.read(MEGABYTE), b""))

    with pytest.raises(UserError, match="set RECMETA_MAX_UNPACKED_RATIO to a larger number"):
        read()
    monkeypatch.setenv(limits.RATIO, "5000")
    assert read() == 72 * MEGABYTE
    monkeypatch.setenv(limits.RATIO, "many")
    with pytest.raises(UserError, match="must be a number above 0"):
        read()


def zipped(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for member, content in members:
            archive.writestr(member, content)
    return path


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    return member


def patched(path: Path, place: int, value: int, length: str = "<I") -> None:
    """Write a number into the entry of the only file: in the directory, and before the file."""
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\1\2")
    local = {24: 22, 20: 18, 10: 8, 8: 6}[place]  # the same field
    struct.pack_into(length, content, directory + place, value)
    struct.pack_into(length, content, local, value)
    path.write_bytes(content)


def hostile(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield archives that must be refused, and what is said."""
    large = b"\0" * (80 * MEGABYTE)
    yield zipped(folder / "bomb.zip", ("u.data", large)), "unpacks to"
    lying = zipped(folder / "lying.zip", ("u.data", large))
    patched(lying, 24, 100)
    yield lying, "whole zip file"
    lying = zipped(folder / "larger.zip", ("u.data", b"1\t2\n"))
    patched(lying, 24, 2**32 - 2)
    yield lying, "unpacks to"
    nested = zipped(folder / "inner.zip", ("u.data", large)).read_bytes()
    yield zipped(folder / "nested.zip", ("inner.zip", nested)), "lacks u.data"
    for mode in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK):
        member = with_mode("u.data", mode | 0o777)
        yield zipped(folder / f"mode-{mode}.zip", (member, b"/etc/passwd")), "lacks u.data"
    odd = zipped(folder / "method.zip", ("u.data", b"1\t2\n"))
    patched(odd, 10, 97, "<H")
    yield odd, "whole zip file"
    secret = zipped(folder / "secret.zip", ("u.data", b"1\t2\n"))
    patched(secret, 8, 1, "<H")
    yield secret, "whole zip file"


def test_hostile_archives_are_refused(tmp_path: Path, faults: Faults) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for archive, message in hostile(tmp_path):
        faults.inject("an archive is made to harm")
        with pytest.raises(UserError) as refused:
            copy_members(archive, ["u.data"], target)
        faults.check(message in str(refused.value), f"{archive.name}: {refused.value}")
        written = sum(path.stat().st_size for path in target.iterdir())
        faults.check(written <= MEGABYTE, f"{archive.name}: {written} bytes")


def test_a_member_is_written_under_its_own_name_alone(tmp_path: Path, faults: Faults) -> None:
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    for name in ("../../u.data", "/u.data", f"{tmp_path}/u.data", "a/../../../u.data"):
        faults.inject("an archive names files outside of the folder")
        archive = zipped(tmp_path / "a.zip", (with_mode(name, stat.S_IFREG | 0o644), b"1\t2\n"))
        copy_members(archive, ["u.data"], target)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]
        faults.check(files == [target / "u.data"], f"{name}: {files}")


def test_a_device_in_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "u.data").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"lacks u\.data"):
        copy_members(tmp_path / "from", ["u.data"], tmp_path)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Serve one answer to one request, then hang up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/log.csv"
        thread.join()


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        (b"Content-Length: 900000000000", b"", "set RECMETA_MAX_DOWNLOAD_GB"),
        (b"X: y", b"x" * (3 * MEGABYTE), "set RECMETA_MAX_DOWNLOAD_GB"),
        (b"Content-Length: 1000", b"x", "broke off|IncompleteRead"),
        (b"Content-Length: -5", b"x", ""),
        (b"Content-Length: many", b"x", ""),
        (b"Transfer-Encoding: chunked", b"zz\r\nx", "not HTTP|Incomplete"),
    ],
)
def test_a_server_that_lies_about_the_length(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faults: Faults,
    headers: bytes,
    body: bytes,
    message: str,
) -> None:
    faults.inject("a server answers with too much, too little, or no HTTP")
    monkeypatch.setenv(limits.DOWNLOAD, "0.002")
    target = tmp_path / "log.csv"
    with answering(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body) as url:
        if not message:
            download(url, target, None, silent)
            return
        with pytest.raises((UserError, NotAvailableError), match=message):
            download(url, target, None, silent)
    faults.check(list(tmp_path.iterdir()) == [], "a part of it stays")


def test_what_is_in_memory_of_an_archive(tmp_path: Path) -> None:
    """A whole file comes out as it was."""
    content = io.BytesIO(b"1\t2\t3\t4\n" * 1000).getvalue()
    copy_members(zipped(tmp_path / "a.zip", ("ml/u.data", content)), ["u.data"], tmp_path)
    assert (tmp_path / "u.data").read_bytes() == content
