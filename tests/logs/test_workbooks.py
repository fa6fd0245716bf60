"""Excel workbooks as logs and as files of attributes."""

import datetime
import importlib.util
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from recmeta import extras
from recmeta.errors import UserError
from recmeta.logs.mapping import LogMapping, Source
from recmeta.logs.proposal import propose
from recmeta.logs.reading.columns import guess_attributes
from recmeta.steps.data import ingest

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
MANIFEST = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
DAY = 45292
"""2024-01-01, as Excel counts days."""
needs_fastexcel = pytest.mark.skipif(
    importlib.util.find_spec("fastexcel") is None, reason="the extra excel is not installed"
)
LOG = [
    ["user_id", "item_id", "stars", "when", "remark"],
    *([n % 8 + 1, f"00{n % 5}", n % 5 + 1, DAY + n / 24, None] for n in range(40)),
]


class Day(float):
    """A number that is shown as a date."""


def cell(column: int, row: int, value: object) -> str:
    place = f'r="{chr(ord("A") + column)}{row}"'
    if value is None:
        return ""
    if isinstance(value, str):
        return f'<c {place} t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f'<c {place} s="{int(isinstance(value, Day))}"><v>{value}</v></c>'


def workbook(path: Path, sheets: dict[str, Sequence[Sequence[object]]], more: str = "") -> Path:
    """Write a workbook as programs do, by the parts of ECMA-376 that reading needs.

    Args:
        more: the XML of a row below the others.
    """
    named = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1)
    )
    linked = "".join(
        f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    linked += f'<Relationship Id="s" Type="{OFFICE}/styles" Target="styles.xml"/>'
    root = f'<Relationship Id="w" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="22" applyNumberFormat="1"/></cellXfs>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{PACKAGE}">{root}</Relationships>')
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{named}</sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{PACKAGE}">{linked}</Relationships>',
        )
        archive.writestr("xl/styles.xml", f'<styleSheet xmlns="{MAIN}">{styles}</styleSheet>')
        for n, rows in enumerate(sheets.values(), 1):
            lines = "".join(
                f'<row r="{r}">{"".join(cell(c, r, v) for c, v in enumerate(row))}</row>'
                for r, row in enumerate(rows, 1)
            )
            data = f"<sheetData>{lines}{more}</sheetData>"
            archive.writestr(
                f"xl/worksheets/sheet{n}.xml", f'<worksheet xmlns="{MAIN}">{data}</worksheet>'
            )
    return path


def open_document(path: Path, rows: Sequence[Sequence[object]], more: str = "") -> Path:
    """Write a spreadsheet as LibreOffice does, with the empty cells that it puts at the ends.

    Args:
        more: the XML of a row below the others.
    """
    names = {n: f"urn:oasis:names:tc:opendocument:xmlns:{n}:1.0" for n in ("office", "table")}
    spaces = " ".join(f'xmlns:{name}="{uri}"' for name, uri in names.items())
    spaces += ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'

    def written(value: object) -> str:
        if isinstance(value, str):
            held = f"<text:p>{escape(value)}</text:p>"
            return f'<table:table-cell office:value-type="string">{held}</table:table-cell>'
        if isinstance(value, Day):
            time = datetime.datetime(1899, 12, 30) + datetime.timedelta(days=value)
            said = f'office:value-type="date" office:date-value="{time:%Y-%m-%dT%H:%M:%S}"'
        elif value is None:
            said = ""
        else:
            said = f'office:value-type="float" office:value="{value}"'
        return f"<table:table-cell {said}/>"

    end = '<table:table-cell table:number-columns-repeated="16380"/></table:table-row>'
    lines = "".join("<table:table-row>" + "".join(map(written, row)) + end for row in rows)
    lines += f'<table:table-row table:number-rows-repeated="1048000">{end}{more}'
    body = f'<table:table table:name="S">{lines}</table:table>'
    body = f"<office:body><office:spreadsheet>{body}</office:spreadsheet></office:body>"
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("META-INF/manifest.xml", f'<manifest xmlns="{MANIFEST}"/>')
        archive.writestr(
            "content.xml", f"<office:document-content {spaces}>{body}</office:document-content>"
        )
    return path


def binary_workbook(path: Path, rows: Sequence[Sequence[object]], last: int = 0) -> Path:
    """Write a workbook of records (MS-XLSB), by the parts that reading needs.

    Args:
        last: the number of a row, from 0, for one more cell; none if 0.
    """

    def record(kind: int, content: bytes = b"") -> bytes:
        number = bytes([kind]) if kind < 128 else bytes([kind & 127 | 128, kind >> 7])
        size, left = b"", len(content)
        while True:
            size += bytes([left & 127 | (128 if left > 127 else 0)])
            left >>= 7
            if not left:
                return number + size + content

    def text(value: str) -> bytes:
        return len(value).to_bytes(4, "little") + value.encode("utf-16-le")

    def written(place: int, value: object) -> bytes:
        head = place.to_bytes(4, "little") + bytes(4)
        if isinstance(value, str):
            return record(6, head + text(value))
        return record(5, head + struct.pack("<d", value))

    lines = [(n, enumerate(row)) for n, row in enumerate(rows)]
    lines += [(last, iter([(16_000, 1.0)]))] * bool(last)
    data = b"".join(
        record(0, n.to_bytes(4, "little") + bytes(21))
        + b"".join(written(c, v) for c, v in row if v is not None)
        for n, row in lines
    )
    sheet = record(
        0x9C, (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + text("r1") + text("S")
    )
    linked = f'<Relationship Id="r1" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.bin"/>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.bin", record(0x8F) + sheet + record(0x90) + record(0x84))
        archive.writestr(
            "xl/_rels/workbook.bin.rels",
            f'<Relationships xmlns="{PACKAGE}">{linked}</Relationships>',
        )
        size = record(0x94, struct.pack("<4I", 0, len(rows) - 1, 0, len(rows[0]) - 1))
        whole = record(0x81) + size + record(0x91) + data + record(0x92) + record(0x82)
        archive.writestr("xl/worksheets/sheet1.bin", whole)
    return path


def dated(rows: list[list[object]]) -> list[list[object]]:
    return [[Day(v) if isinstance(v, float) else v for v in row] for row in rows]


@needs_fastexcel
def test_a_sheet_is_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = workbook(tmp_path / "log.xlsx", {"Log": dated(LOG), "Sheet2": []})
    proposed = propose(Source(path=str(path)))
    assert proposed is not None
    assert proposed.options == {"time_col": "when", "value_col": "stars", "scale": "1:5"}
    found = ingest.dry_run(proposed.mapping(str(path)), now=NOW)
    assert (found.counts["accepted"], found.counts["quarantined"]) == (40, 0)
    assert (found.findings.num_users, found.findings.num_items) == (8, 5)
    assert str(found.findings.first_time).startswith("2024-01-01")
    assert str(found.findings.last_time).startswith("2024-01-02")
    assert capfd.readouterr().err == ""  # of the column without a value


@needs_fastexcel
def test_a_sheet_without_a_header_and_one_of_several(tmp_path: Path) -> None:
    names = ("user_id", "item_id", "stars", "when", "remark")
    rows = {"2023": LOG[1:11], "2024": [*LOG[1:], list(names)]}
    path = str(workbook(tmp_path / "log.xlsx", rows))
    with pytest.raises(UserError, match="several sheets with rows: name one with --sheet"):
        ingest.dry_run(LogMapping(path=path, column_names=names), now=NOW)
    with pytest.raises(UserError, match=r"no sheet '2025'\..*It has: 2023, 2024\."):
        ingest.dry_run(LogMapping(path=path, column_names=names, sheet="2025"), now=NOW)
    mapping = LogMapping(path=path, column_names=names, sheet="2024", value_col="stars")
    assert ingest.dry_run(mapping, now=NOW).counts["accepted"] == 40
    with pytest.raises(UserError, match="has 4 columns, and --column-names names 2"):
        ingest.dry_run(LogMapping(path=path, column_names=names[:2], sheet="2023"), now=NOW)


@needs_fastexcel
def test_a_sheet_has_the_items(tmp_path: Path) -> None:
    rows = [
        ["item_id", "title", "genres", "year"],
        *([f"00{n}", f"T{n}", "A|B", 2000 + n] for n in range(5)),
    ]
    items = guess_attributes(
        Source(path=str(workbook(tmp_path / "items.xlsx", {"S": rows}))), "item_id"
    )
    assert {name: a.kind for name, a in items.columns.items()} == {
        "title": "text",
        "genres": "multi",
        "year": "numeric",
    }
    log = workbook(tmp_path / "log.xlsx", {"Log": LOG})
    found = ingest.dry_run(LogMapping(path=str(log), items=items), now=NOW)
    assert found.findings.items_known == 5


@needs_fastexcel
def test_what_is_no_workbook_or_too_large_is_one_sentence(tmp_path: Path) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(UserError, match=match) as caught:
            ingest.dry_run(LogMapping(path=str(path)), now=NOW)
        assert str(caught.value).isprintable()

    text = tmp_path / "export.xls"
    text.write_text("user_id\titem_id\n1\t2\n")
    refused(text, "not a workbook, despite its name: .* --format tsv")
    far = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    refused(workbook(tmp_path / "far.xlsx", {"S": LOG}, far), "row 1,048,576 and column 16,384")
    cut = workbook(tmp_path / "cut.xlsx", {"S": LOG})
    cut.write_bytes(cut.read_bytes()[:-200])
    refused(cut, "cut short or locked")
    full = workbook(tmp_path / "full.xlsx", {"S": LOG})
    with zipfile.ZipFile(full, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.png", bytes(80 * 1024**2))
    refused(full, "RECMETA_MAX_UNPACKED_RATIO")
    with zipfile.ZipFile(tmp_path / "other.xlsx", "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    refused(tmp_path / "other.xlsx", "not a workbook \\(.xlsx")
    refused(workbook(tmp_path / "empty.xlsx", {"S": []}), "no rows in any of its sheets")


@needs_fastexcel
def test_sheets_of_other_programs(tmp_path: Path) -> None:
    opened = open_document(tmp_path / "log.ods", dated(LOG))
    proposed = propose(Source(path=str(opened)))
    assert proposed is not None
    assert proposed.options == {"time_col": "when", "value_col": "stars", "scale": "1:5"}
    found = ingest.dry_run(proposed.mapping(str(opened)), now=NOW)
    assert (found.counts["accepted"], found.findings.num_items) == (40, 5)
    assert str(found.findings.last_time).startswith("2024-01-02")
    binary = binary_workbook(tmp_path / "log.xlsb", LOG)
    mapping = LogMapping(path=str(binary), value_col="stars", scale="1:5")
    found = ingest.dry_run(mapping, now=NOW)
    assert (found.counts["accepted"], found.findings.num_users) == (40, 8)


@needs_fastexcel
@pytest.mark.parametrize("kind", ["ods", "xlsb"])
def test_a_cell_far_away_takes_no_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"far.{kind}"
    if kind == "ods":
        far = '<table:table-cell office:value-type="float" office:value="1"/>'
        far = f'<table:covered-table-cell table:number-columns-repeated="15999"/>{far}'
        open_document(path, LOG, f"<table:table-row>{far}</table:table-row>")
    else:
        binary_workbook(path, LOG, last=1_048_000)
    with pytest.raises(UserError, match=r"cells as far as row 1,048,0\d\d and column 16,00"):
        ingest.dry_run(LogMapping(path=str(path)), now=NOW)


@needs_fastexcel
def test_titles_above_a_table_are_no_rows(tmp_path: Path) -> None:
    titles = [["Ratings of January", None, None, None, None], [None] * 5]
    for name, rows in (("a", [*titles, *LOG]), ("b", [[None] * 5, *titles, *LOG])):
        path = workbook(tmp_path / f"{name}.xlsx", {"S": dated(rows)})
        mapping = LogMapping(path=str(path), value_col="stars", time_col="when")
        found = ingest.dry_run(mapping, now=NOW)
        assert found.counts == {
            "rows_read": 40, "accepted": 40, "duplicates": 0, "quarantined": 0,
            "users": 0, "items": 0,
        }  # fmt: skip
        assert found.notes == ("Lines skipped because they are titles above the header: 2.",)


@needs_fastexcel
def test_entities_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "log.ods"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("content.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    with pytest.raises(UserError, match="has a document type"):
        ingest.dry_run(LogMapping(path=str(path)), now=NOW)


def test_without_the_extra_a_workbook_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "log.xlsx", {"Log": LOG})
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastexcel" else found(name)
    )
    with pytest.raises(extras.MissingExtraError, match=r"^fastexcel is not installed, .*pip"):
        ingest.dry_run(LogMapping(path=str(path)), now=NOW)
