"""Parsers of what strangers write, each with small files to begin with."""

import contextlib
import dataclasses
import datetime
import functools
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError

from recmeta import manifest, strict_json
from recmeta.endpoint.answers.models import (
    QuestionsRequest,
    RecommendationRequest,
    RecommendationsRequest,
)
from recmeta.endpoint.events.models import EventsRequest
from recmeta.endpoint.guard.keys import read_keys
from recmeta.errors import UserError
from recmeta.logs.checking import checked
from recmeta.logs.mapping import LogMapping, load_mapping
from recmeta.logs.reading.files import find_files
from recmeta.logs.workbook_limits import check_workbook
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.progress import silent
from recmeta.recipes.configuration import pipeline_config
from recmeta.serving.rules import Rules
from recmeta.steps.data import ingest
from recmeta.steps.parts.item_facts import item_facts
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.search_space import read_space
from recmeta.workspace import DIGESTS, Folder, Workspace, sealed

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
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
IN_PARTS = rb"\n(?=\[items\]|\[users\]|time_unit)"
MAPPINGS = (
    MAPPING,
    *(b'path = "log.csv"\n' + part for part in re.split(IN_PARTS, MAPPING)[1:]),
)
CONFIGS = (CONFIG, *re.split(rb"\n(?=\[(?:tasks|train\]|train.tr|evaluate.ev|score|\[))", CONFIG))
"""Parts as well as the whole: a mutant of a part is parsed in a third of the time."""
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
MAPPING_JSON = (
    b'{"path": "a", "user_col": "u", "users": {"path": "b", "id_col": "c", "columns": {}}}'
)
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
BODIES = (
    b'{"interactions": [{"item_id": "1", "value": 5, "timestamp": "2026-05-01T12:30:00Z"}], '
    b'"profile": {"gender": "F", "age": "25"}, "user_id": "u", "max_reasons": 2, "top_k": 3}',
    b'{"interactions": [], "unknown": ["3", "4"], "count": 2}',
    b'{"user_id": "u", "candidates": ["1"], "exclude": ["2"], "filters": {"genres": ["Drama"], '
    b'"release_year": {"min": 1990, "max": 2000}}}',
    b'{"users": [{"interactions": [{"item_id": "1"}]}]}',
    b'{"events": [{"event_id": "e1", "user_id": "u", "item_id": "1", "value": 5, '
    b'"timestamp": "2026-05-01T12:30:00Z"}]}',
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
    mapping = dataclasses.replace(found, path=str(log), users=None, items=None)
    return checked.read_log(mapping, find_files(mapping), NOW, silent)


def _log(path: Path) -> object:
    mapping = LogMapping(path=str(path), time_col="timestamp", value_col="rating", scale="1:5")
    return checked.read_log(mapping, find_files(mapping), NOW, silent)


def _ids(path: Path) -> object:
    return item_facts(Rules(deny=str(path), allow=str(path)), Workspace(path.parent), NOW)


def _in_workbook(part: str, main: str) -> Callable[[bytes], object]:
    """Return a parser of a part of a workbook, as `check_workbook` looks at it."""

    def parse(content: bytes) -> object:
        return check_workbook(zipped({main: b"", part: content}), "a workbook")

    return parse


def _body(content: bytes) -> object:
    """Parse the body of a request as each route does that takes one; a refusal by one is fine."""
    asked: tuple[type[BaseModel], ...] = (
        *(RecommendationRequest, RecommendationsRequest, QuestionsRequest, EventsRequest),
    )
    try:
        value = strict_json.loads(content)
    except ValueError as error:
        raise UserError(str(error)) from error
    taken = []
    for model in asked:
        with contextlib.suppress(ValidationError):
            taken.append(model.model_validate(value))
    return taken


def _in_model(folder: Path, name: str, *, digests: bool) -> Callable[[bytes], object]:
    """Return a parser of a file of a model's folder."""
    model, place = _model(), Folder.at(folder / "model")
    model.save(place)
    if not digests:  # as a stranger leaves it who knows how to write them
        place.delete(DIGESTS)

    def parse(content: bytes) -> object:
        place.write_bytes(name, content)
        return Model.load(place) if not digests else sealed(place).read_bytes("model.json")

    return parse


@functools.cache
def _model() -> Model:
    log = generate(SyntheticConfig(num_users=30, num_items=8, rows_per_user=(4, 6)), seed=5)
    with tempfile.TemporaryDirectory() as tasks:
        task_set = write_task_set(log, Folder.at(tasks))
        config = ModelConfig(
            algorithm="bayesian-linear", network=PreferenceConfig(embedding_dim=2, hidden_dims=())
        )
        model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    return model


@functools.cache
def _saved(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        _model().save(Folder.at(folder))
        return (Path(folder) / name).read_bytes()


@dataclasses.dataclass(frozen=True)
class Parser:
    """What reads one kind of file."""

    make: Callable[[Path], Callable[[bytes], object]]
    """Returns how a content is parsed, given a folder for files."""
    seeds: Callable[[], tuple[bytes, ...]]
    """Returns files to begin with."""
    slowness: int = 1
    """How many times as slow it is as one that takes a fifth of a millisecond."""


def _file(name: str, read: Callable[[Path], object], *seeds: bytes, slowness: int = 1) -> Parser:
    return Parser(lambda folder: in_file(folder, name, read), lambda: seeds, slowness)


def _sheet(part: str, main: str, seed: bytes) -> Parser:
    return Parser(lambda _: _in_workbook(part, main), lambda: (seed,))


def _configuration(path: Path) -> object:
    return pipeline_config(path=path)


SHEET = "xl/worksheets/sheet1"
PARSERS = {
    "mapping.toml": _file("m.toml", load_mapping, *MAPPINGS),
    "mapping.json": _file("m.json", load_mapping, MAPPING_JSON),
    "configuration": _file("c.toml", _configuration, *CONFIGS, slowness=2),
    "search space": _file("s.toml", read_space, SPACE),
    "manifest": Parser(_manifest, lambda: (MANIFEST,)),
    "API keys": _file("keys", read_keys, KEYS),
    "list of items": _file("deny.txt", _ids, LINES),
    "table of items": _file("deny.csv", _ids, DENY),
    "array of items": _file("deny.json", _ids, ARRAY),
    "request body": Parser(lambda _: _body, lambda: BODIES),
    "digests of a model": Parser(
        lambda folder: _in_model(folder, DIGESTS, digests=True), lambda: (_saved(DIGESTS),)
    ),
    "model.json": Parser(
        lambda folder: _in_model(folder, "model.json", digests=False),
        lambda: (_saved("model.json"),),
        slowness=10,
    ),
    "model.safetensors": Parser(
        lambda folder: _in_model(folder, "model.safetensors", digests=False),
        lambda: (_saved("model.safetensors"),),
        slowness=10,
    ),
    "sheet.ods": _sheet("content.xml", "content.xml", ODS),
    "sheet.xlsx": _sheet(f"{SHEET}.xml", "xl/workbook.xml", XLSX),
    "sheet.xlsb": _sheet(f"{SHEET}.bin", "xl/workbook.bin", XLSB),
    "workbook": Parser(
        lambda _: lambda content: check_workbook(content, "a workbook"), lambda: (WORKBOOK,)
    ),
    "log.zip": _file("log.zip", _log, ZIP, slowness=20),
    "mapping of a log": _file("m.toml", _mapped_rows, MAPPING, slowness=20),
    "log.csv": _file("log.csv", _log, CSV, slowness=20),
    "log.tsv": _file("log.tsv", _log, CSV.replace(b",", b"\t"), slowness=20),
    "log.jsonl": _file("log.jsonl", _log, JSONL, slowness=20),
}
