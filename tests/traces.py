"""Where in a workspace a user still is, however the files are packed and the id is spelled."""

import io
import json
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq


def found_in(workspace: Path, user_id: str) -> list[str]:
    """Return the files, relative to the workspace, in which an id is."""
    spelled = {
        user_id.encode(),
        user_id.encode("utf-16-le"),
        user_id.encode("utf-16-be"),
        json.dumps(user_id)[1:-1].encode(),
        json.dumps(user_id, ensure_ascii=False)[1:-1].encode(),
        json.dumps(json.dumps(user_id))[3:-3].encode(),
        user_id.replace('"', '""').encode(),
        urllib.parse.quote(user_id).encode(),
    }
    files = (path for path in workspace.rglob("*") if path.is_file())
    return [
        str(path.relative_to(workspace))
        for path in files
        if any(wanted in content for content in _contents(path) for wanted in spelled)
    ]


def _contents(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, and those of its columns where it is a packed table."""
    content = path.read_bytes()
    yield content
    if ".parquet" in path.name:
        yield _texts(pq.read_table(io.BytesIO(content)))
    if ".arrow" in path.name:
        yield _texts(ipc.open_file(pa.py_buffer(content)).read_all())
    if path.suffix == ".db":
        with sqlite3.connect(path) as database:
            yield "\n".join(database.iterdump()).encode()


def _texts(table: pa.Table) -> bytes:
    return json.dumps(table.to_pydict(), ensure_ascii=False, default=str).encode(
        errors="surrogatepass"
    )
