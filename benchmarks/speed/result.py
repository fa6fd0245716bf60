"""The result of a benchmark as a table and as JSON, and the machine that it ran on."""

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
OnRow = Callable[[Row], None]
"""Called with each row as soon as it is measured."""


def unheard(row: Row) -> None:
    """Tell nobody."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """One benchmark's table."""

    name: str
    title: str
    columns: tuple[str, ...]
    """The keys of the rows that the table shows; the JSON has all keys."""
    rows: Sequence[Row]
    machine: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: `rows` and `machine`."""
        return {"rows": list(self.rows), "machine": dict(self.machine)}

    def to_markdown(self) -> str:
        """Return the table under its title, and the machine below it."""
        lines = ["| " + " | ".join(c.replace("_", " ") for c in self.columns) + " |"]
        lines.append("|" + "---|" * len(self.columns))
        for row in self.rows:
            lines.append("| " + " | ".join(_plain(row.get(c)) for c in self.columns) + " |")
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return "\n".join([f"### {self.title}", "", *lines, "", machine])


def machine(*packages: str) -> dict[str, Any]:
    """Return a description of the machine: processor, cores, memory, versions.

    Args:
        packages: the names of distributions whose versions are included, if they are installed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found["memory_gib"] = round(memory / 2**30, 1)
    if hasattr(os, "getloadavg"):
        found["load_before"] = round(os.getloadavg()[0], 2)
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return "" if value is None else str(value)
