"""What is deployed: looked up among known vulnerabilities, and installed only with its hash."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RECORDS = [
    {
        "id": "PYSEC-1",
        "aliases": ["CVE-1"],
        "summary": "Lets anybody in.",
        "modified": "2026-01-02T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "Some_Package"},
                "ranges": [
                    {"type": "GIT", "events": [{"introduced": "0"}]},
                    {
                        "type": "ECOSYSTEM",
                        "events": [
                            {"introduced": "1.0"},
                            {"fixed": "1.5"},
                            {"introduced": "2.0rc1"},
                            {"last_affected": "2.2"},
                        ],
                    },
                ],
                "versions": ["0.1", "not a version"],
            },
            {
                "package": {"ecosystem": "npm", "name": "other"},
                "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
            },
        ],
    },
    {
        "id": "PYSEC-2",
        "withdrawn": "2026-01-01T00:00:00Z",
        "modified": "2026-01-01T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "some-package"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
            }
        ],
    },
]


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "all.zip"
    write_database(path, RECORDS)
    return path


def write_database(path: Path, records: list[dict[str, Any]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))


@pytest.fixture(scope="module")
def audit() -> Any:
    sys.path.insert(0, str(ROOT / "deploy"))
    try:
        import audit
    finally:
        sys.path.remove(str(ROOT / "deploy"))
    return audit


@pytest.mark.parametrize(
    ("version", "vulnerable"),
    [
        *(("0.1", True), ("0.2", False), ("1.0", True), ("1.4.9", True), ("1.5", False)),
        *(("1.9", False), ("2.0rc1", True), ("2.0+cpu", True), ("2.2", True), ("2.2.1", False)),
        *(("1.0rc1", False), ("0.1+local", True), ("2.3", False)),
    ],
)
def test_a_version_is_found_where_the_record_says(
    audit: Any, database: Path, tmp_path: Path, version: str, vulnerable: bool
) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(f"# a comment\nsome.package=={version} --hash=sha256:ab\nother==1.0  # why\n")
    assert audit.main([str(pins), "--database", str(database)]) == int(vulnerable)
    ignoring = [str(pins), "--database", str(database), "--ignore", "CVE-1"]
    assert audit.main(ignoring) == 0


def test_what_is_found_is_said_with_what_mends_it(database: Path, tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("some-package==1.2\nother==1.0\n")
    done = python(ROOT / "deploy" / "audit.py", pins, "--database", database)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "some-package 1.2: PYSEC-1, CVE-1; fixed in 1.5. Lets anybody in.",
        "1 known vulnerabilities in 2 pins, by a database whose newest record is of "
        "2026-01-02T00:00:00Z.",
    ]


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "a>=1\n", "a\n", "a==1.*\n", "a==1,<2\n", "-e .\n"]
)
def test_pins_that_cannot_be_judged_are_no_pass(
    audit: Any, database: Path, tmp_path: Path, text: str
) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(text)
    assert audit.main([str(pins), "--database", str(database)]) == 2
    assert audit.main([str(tmp_path / "absent.txt"), "--database", str(database)]) == 2


def test_a_database_that_says_nothing_is_no_pass(audit: Any, tmp_path: Path) -> None:
    pins, broken = tmp_path / "pins.txt", tmp_path / "all.zip"
    pins.write_text("a==1\n")
    assert audit.main([str(pins), "--database", str(broken)]) == 2
    broken.write_bytes(b"not a zip file")
    assert audit.main([str(pins), "--database", str(broken)]) == 2
    write_database(broken, [])
    assert audit.main([str(pins), "--database", str(broken)]) == 2
    write_database(
        broken, [{"id": "GO-1", "affected": [{"package": {"ecosystem": "Go", "name": "a"}}]}]
    )
    assert audit.main([str(pins), "--database", str(broken)]) == 2
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("a.json", '{"id": "PYSEC-1", "affected": [{"pack')
    assert audit.main([str(pins), "--database", str(broken)]) == 2


def test_todays_pins_can_all_be_judged(audit: Any, database: Path) -> None:
    assert audit.main([str(ROOT / "constraints.txt"), "--database", str(database)]) == 0


def write_wheel(folder: Path) -> Path:
    wheel = folder / "tiny_thing-1.0-py3-none-any.whl"
    about = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def test_only_the_archives_that_were_resolved_are_installed(tmp_path: Path) -> None:
    wheel, report = write_wheel(tmp_path), tmp_path / "report.json"
    offline = ("-m", "pip", "install", "--no-index", "--find-links", tmp_path, "--dry-run")
    resolved = python(*offline, "--ignore-installed", "--quiet", "--report", report, "tiny-thing")
    assert resolved.returncode == 0, resolved.stderr
    made = python(ROOT / "deploy" / "hashes.py", report)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert made.stdout.splitlines()[-1] == f"tiny-thing==1.0 --hash=sha256:{digest}"
    assert "file:" not in made.stdout  # where it came from is nobody's business

    requirements = tmp_path / "requirements.txt"
    requirements.write_text(made.stdout)
    install = (*offline, "--require-hashes", "--no-deps", "-r", requirements)
    done = python(*install)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("planted.py", "")
    refused = python(*install)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
