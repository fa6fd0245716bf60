"""What the wheel and the source distribution carry."""

import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_all_that_the_package_reads(wheel: Path) -> None:
    found = contents(wheel)
    own = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "recmeta").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "recmeta/py.typed" in own
    assert "recmeta/endpoint/page/index.html" in own
    assert own <= set(found)


def test_the_wheel_has_the_dags_and_the_feature_repository(wheel: Path) -> None:
    found = contents(wheel)
    for folder in ("dags", "feature_store"):
        prefix = f"recmeta/project/{folder}/"
        carried = {
            n.removeprefix(prefix): data for n, data in found.items() if n.startswith(prefix)
        }
        there = {p.name: p.read_bytes() for p in (ROOT / folder).iterdir() if p.is_file()}
        assert carried == {name: data for name, data in there.items() if name[0] != "."}


def test_nothing_else_is_on_top(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in contents(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"recmeta"}


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, wheel_of_sdist: Path) -> None:
    first, second = contents(wheel), contents(wheel_of_sdist)
    record = next(name for name in first if name.endswith("/RECORD"))
    assert sorted(first) == sorted(second)
    differing = [n for n in first if first[n] != second[n] and n != record]
    assert differing == []
