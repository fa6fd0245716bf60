"""Whatever a stranger writes is parsed or refused with a message: no crash, no hang."""

import datetime
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from counting import Faults
from fuzzing import fault_of, mutants

from recmeta import manifest
from recmeta.endpoint.guard.keys import read_keys
from recmeta.logs.checking import checked
from recmeta.logs.mapping import LogMapping, load_mapping
from recmeta.logs.reading.files import find_files
from recmeta.logs.workbook_limits import check_workbook
from recmeta.progress import silent
from recmeta.recipes.configuration import pipeline_config
from recmeta.serving.rules import Rules
from recmeta.steps.data import ingest
from recmeta.steps.parts.item_facts import item_facts
from recmeta.training.search_space import read_space
from recmeta.workspace import Workspace

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SEED = int(os.environ.get("RECMETA_FUZZ_SEED", "16"))
CASES = int(os.environ.get("RECMETA_FUZZ_CASES", "3000"))
"""Of each parser, with RECMETA_FAULTS=1."""

MAPPING = b"""
path = "log.csv"
format = "csv"
separator = ";"
quote = "'"
escape = "\\\\"
encoding = "latin-1"
column_names = ["user", "item", "when", "stars", "kind"]
user_col = "user"
item_col = "item"
time_col = "when"
time_unit = "%Y-%m-%d %H:%M:%S"
event_col = "kind"
events = { view = "view", buy = "purchase" }
value_col = "stars"
scale = "0.5:5"
implicit_value = 0.0
max_bad_share = 0.1

[users]
path = "users.parquet"
id_col = "user"
valid_from_col = "since"
time_unit = "iso"
[users.columns]
age = { kind = "numeric", scale = "1:120" }
job = { kind = "categorical", column = "occupation" }
[items]
path = "~/items.jsonl"
id_col = "item"
[items.columns]
genres = { kind = "multi", separator = "," }
flags = { kind = "multi", flags = { a = "is_a", b = "is_b" } }
year = { kind = "numeric", column = "title", pattern = '\\((\\d{4})\\)$' }
"""
CONFIG = b"""
[tasks]
seed = 3
max_support = 20
[train]
seed = 1
[train.model]
algorithm = "maml"
[train.model.learner]
inner_steps = 2
[train.training]
epochs = 3
learning_rate = 1e-3
batch_size = 16
[train.model.features]
user_features = ["age", "job"]
[evaluate.evaluation]
seed = 4
[evaluate.gate]
min_users = 10
[score]
top_k = 10
[score.rules]
deny = "deny.txt"
unavailable = { status = ["sold out"] }
at_least = { year = 1995 }
max_per_category = { genres = 2 }
diversity = 0.3
[[train.members]]
model = { algorithm = "anil" }
"""
SPACE = b"""
[train.training]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
epochs = { low = 1, high = 9 }
[train.model.network]
hidden_dims = { choices = [[], [64], [64, 64]] }
use_statistics = { choices = [true, false] }
"""
MANIFEST = json.dumps(
    {
        "step": "ingest",
        "key": "k",
        "config": {"mapping": {"path": None, "columns": [1, 2]}},
        "inputs": {"source": "s"},
        "outputs": {"source": "s", "tables": {"interactions": 1, "items": 0}},
        "counts": {"rows_read": 3},
        "libraries": {"python": "3.11"},
        "git_commit": None,
        "finished_at": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
    },
    indent=1,
).encode()
KEYS = (
    b"# the shops\nshop: 0123456789abcdef0123\n0123456789abcdef9999\n"
    b"b:0123456789abcdef8888,c:0123456789abcdef7777\n"
)
DENY = b'item_id,why\ni1,sold out\n"i,2",\n i3 ,"a\nb"\n'
LINES = b"i1\ni2\n\n # i3\n i4 \n"
ARRAY = b'["i1", "i\\u0032", 3, " i4 "]\n'
ODS = (
    b'<o:d xmlns:o="a" xmlns:table="b" xmlns:office="c"><table:table><table:table-row '
    b'table:number-rows-repeated="3"><table:table-cell office:value-type="float" office:value="1" '
    b'table:number-columns-repeated="2"/><table:covered-table-cell/></table:table-row><table:table-'
    b"row><table:table-cell>a</table:table-cell></table:table-row></table:table></o:d>"
)
XLSX = b'<sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="7"><c s="1" r="AB7"/></row>'
XLSB = (
    bytes([0x91, 1, 0])
    + b"".join(
        bytes([0, 25, row, *bytes(24), 5, 16, column, *bytes(15), 7, 12, 1, *bytes(11)])
        for row, column in ((0, 0), (3, 200))
    )
    + bytes([0x92, 1, 0])
)


def zipped(parts: dict[str, bytes]) -> bytes:
    """Return a zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


WORKBOOK = zipped({"xl/workbook.xml": b"<workbook/>", "xl/worksheets/sheet1.xml": XLSX})
CSV = (
    b'user_id,item_id,timestamp,rating,remark\nu1,i1,1,5,ok\n"u,2",i2,2.5,4,"a\nb"\n'
    b'u3,"i""3",1e9,nan,\nu4,i4,-1,inf,x\n'
)
ZIP = zipped({"a/log.csv": CSV, "README.md": b"what it is"})
JSONL = (
    b'{"user_id": "u1", "item_id": 7, "timestamp": 5, "rating": 3, "tags": {"a": [1, {"b": 0}]}}\n'
    b'{"rating": 4.5, "timestamp": "6", "item_id": "\\u0069", "user_id": "\\ud83d\\ude42"}\n'
)


def in_file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a parser of a file as one of its content."""
    path = folder / name

    def parse(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return parse


def _manifest(folder: Path) -> Callable[[bytes], object]:
    workspace = Workspace(folder / "ws")
    place = folder / "ws" / "manifests" / "ingest"
    place.mkdir(parents=True)

    def read(_: Path) -> object:
        return manifest.find(workspace, ingest.STEP, "k")

    return in_file(place, "k.json", read)


def _mapped_rows(path: Path) -> object:
    """Read a small log as a mapping says, of which the places are left out."""
    found = load_mapping(path)
    log = path.parent / "a-log.csv"
    if not log.exists():
        log.write_bytes(b"user;item;when;stars;kind\nu1;i1;2020-01-01 10:00:00;5;view\n")
    import dataclasses

    mapping = dataclasses.replace(found, path=str(log), users=None, items=None)
    return checked.read_log(mapping, find_files(mapping), NOW, silent)


def _log(path: Path) -> object:
    mapping = LogMapping(path=str(path), time_col="timestamp", value_col="rating", scale="1:5")
    return checked.read_log(mapping, find_files(mapping), NOW, silent)


def _ids(path: Path) -> object:
    return item_facts(Rules(deny=str(path), allow=str(path)), Workspace(path.parent), NOW)


def _in_workbook(folder: Path, part: str, main: str) -> Callable[[bytes], object]:
    """Return a parser of a part of a workbook, as `check_workbook` looks at it."""

    def parse(content: bytes) -> object:
        return check_workbook(zipped({main: b"", part: content}), "a workbook")

    return parse


def _space(path: Path) -> object:
    return read_space(path)


PARSERS: dict[str, tuple[Callable[[Path], Callable[[bytes], object]], tuple[bytes, ...], int]] = {
    "mapping.toml": (lambda f: in_file(f, "m.toml", load_mapping), (MAPPING,), 1),
    "mapping.json": (
        lambda f: in_file(f, "m.json", load_mapping),
        (b'{"path": "a", "user_col": "u", "users": {"path": "b", "id_col": "c", "columns": {}}}',),
        1,
    ),
    "configuration": (
        lambda f: in_file(f, "c.toml", lambda path: pipeline_config(path=path)),
        (CONFIG,),
        4,
    ),
    "search space": (lambda f: in_file(f, "s.toml", _space), (SPACE,), 1),
    "manifest": (_manifest, (MANIFEST,), 1),
    "API keys": (lambda f: in_file(f, "keys", read_keys), (KEYS,), 1),
    "list of items": (lambda f: in_file(f, "deny.txt", _ids), (LINES,), 1),
    "table of items": (lambda f: in_file(f, "deny.csv", _ids), (DENY,), 2),
    "array of items": (lambda f: in_file(f, "deny.json", _ids), (ARRAY,), 1),
    "sheet.ods": (lambda f: _in_workbook(f, "content.xml", "content.xml"), (ODS,), 1),
    "sheet.xlsx": (
        lambda f: _in_workbook(f, "xl/worksheets/sheet1.xml", "xl/workbook.xml"),
        (XLSX,),
        1,
    ),
    "sheet.xlsb": (
        lambda f: _in_workbook(f, "xl/worksheets/sheet1.bin", "xl/workbook.bin"),
        (XLSB,),
        1,
    ),
    "workbook": (lambda f: lambda content: check_workbook(content, "a workbook"), (WORKBOOK,), 1),
    "log.zip": (lambda f: in_file(f, "log.zip", _log), (ZIP,), 20),
    "mapping of a log": (lambda f: in_file(f, "m.toml", _mapped_rows), (MAPPING,), 20),
    "log.csv": (lambda f: in_file(f, "log.csv", _log), (CSV,), 20),
    "log.tsv": (lambda f: in_file(f, "log.tsv", _log), (CSV.replace(b",", b"\t"),), 20),
    "log.jsonl": (lambda f: in_file(f, "log.jsonl", _log), (JSONL,), 20),
}
"""By name: how a content is parsed, files to begin with, and how many times as slow it is."""


@pytest.mark.parametrize("name", PARSERS)
def test_a_mutated_file_is_parsed_or_refused(name: str, tmp_path: Path, faults: Faults) -> None:
    make, seeds, slowness = PARSERS[name]
    parse = make(tmp_path)
    number = max(1, faults.number(sample=60, all_of_them=CASES) // slowness)
    rng = random.Random(f"{SEED} {name}")
    for _, content in zip(range(number), mutants(seeds, rng), strict=False):
        found = fault_of(parse, content)
        faults.check(not found, f"{found} of {content!r}")
        if len(faults.lost) >= 20:
            break
    faults.inject("a file that a stranger wrote is mutated", number)


FOUND = [
    ("mapping.toml", b'path = "a"\nusers.' + b"a." * 3000 + b"b = 1"),
    ("mapping.toml", b'path = "a"\nencoding = "zlib_codec"'),
    ("mapping.toml", b'path = "~nobody-of-that-name/a.csv"'),
    ("mapping.toml", b'path = "a"\nimplicit_value = 1' + b"0" * 400 + b'\nvalue_col = "b"'),
    ("mapping.json", b'{"path": "a", "path": "b"}'),
    ("mapping.json", b'{"a":' * 3000),
    ("search space", b"[train]\n" + b"a." * 3000 + b"b = { low = 1, high = 2 }"),
    ("search space", b"[train]\na = { choices = " + b"[" * 3000),
    ("mapping of a log", b'path = "a"\ntime_col = "when"\ntime_unit = "%Y-%m-%d %H:%{"'),
    ("mapping of a log", b'path = "a"\ntime_col = "when"\ntime_unit = "%file://"'),
    ("list of items", b"i\x8a"),
    ("table of items", b'item_id,why\ni1,sold out\n"i-2",\n i3 ,"a\n'),
    ("table of items", b"item_id,why\ni1,a,b,c"),
    ("manifest", b'{"outputs": {"source": "s", "tables": {}}, "another": 1}'),
    ("manifest", b'{"step": "ingest"}'),
    ("workbook", WORKBOOK.replace(b"PK\x05\x06", b"PK\x05\x06\0\0")),
    ("workbook", WORKBOOK[:60] + WORKBOOK[62:]),
    ("log.zip", ZIP[:60] + ZIP[62:]),
    ("log.zip", zipped({"": CSV})),
    ("log.zip", ZIP.replace(b"\x08\x00", b"\x09\x00")),  # Deflate64, as Windows packs large files
    ("log.jsonl", b'{"user_id": "u", "user_id": "v", "item_id": "i", "timestamp": 1, "rating": 2}'),
]
"""What once ended in another way: a crash, a hang, or in silence."""


@pytest.mark.parametrize(("name", "content"), FOUND)
def test_what_was_found_stays_mended(name: str, content: bytes, tmp_path: Path) -> None:
    make, _, _ = PARSERS[name]
    assert not fault_of(make(tmp_path), content)
