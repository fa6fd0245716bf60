"""Whatever a stranger writes is parsed or refused with a message: no crash, no hang."""

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import Faults
from fuzzing import fault_of, mutants
from parsers import CSV, PARSERS, WORKBOOK, ZIP, zipped

SEED = int(os.environ.get("RECMETA_FUZZ_SEED", "16"))
CASES = int(os.environ.get("RECMETA_FUZZ_CASES", "3000"))
"""Of each parser, with RECMETA_FAULTS=1; of slow ones, fewer."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable()  # a warning for each of a million manifests
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.timeout(7200)
def test_a_mutated_file_is_parsed_or_refused(name: str, tmp_path: Path, faults: Faults) -> None:
    parser = PARSERS[name]
    parse = parser.make(tmp_path)
    number = max(1, faults.number(sample=60, all_of_them=CASES) // parser.slowness)
    rng = random.Random(f"{SEED} {name}")
    for _, content in zip(range(number), mutants(parser.seeds(), rng), strict=False):
        found = fault_of(parse, content)
        faults.check(not found, f"{found} of {content!r:.2000}")
        if len(faults.lost) >= 20:
            break
    faults.inject(f"a file that a stranger wrote is mutated ({name})", number)


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
    ("digests of a model", b'{"digest": "1ebc6a955fc4811b", "files": ' + b'{"a":' * 3000),
    ("digests of a model", b'{"files": ' + b"[" * 3000),
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
    assert not fault_of(PARSERS[name].make(tmp_path), content)
