"""Tables of docs/performance.md out of benchmarks/speed/results, for `docs.figures`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recmeta.reporting.markdown import table

SPEED = Path(__file__).parents[1] / "benchmarks/speed/results"
Json = Mapping[str, Any]


def load(name: str) -> Any:
    """Return a benchmark's saved result."""
    return json.loads((SPEED / f"{name}.json").read_text(encoding="utf-8"))


def meta_train() -> str:
    """Return users per second of meta-training, ours beside the others'."""
    rows = [
        [
            r["name"],
            str(r["inner_steps"]),
            str(r["threads"]),
            f"{r['users_per_second']:,.0f}",
            f"{r['times_slower']:.1f}",
            _percent(r.get("share_of_ceiling")),
            _percent(r.get("share_of_products")),
        ]
        for r in load("meta-train")["rows"]
    ]
    head = ["", "inner steps", "threads", "users per second", "recmeta is faster by"]
    return table([*head, "of the ceiling", "of its products' ceiling"], rows)


def adapt_score() -> str:
    """Return users per second and latencies of adapting and ranking on a CPU."""
    return _adapt_score(load("adapt-score")["rows"])


def adapt_score_gpu() -> str:
    """Return the same on a GPU."""
    return _adapt_score(load("gpu")["adapt_score"])


def _adapt_score(rows: Sequence[Json]) -> str:
    shown = [
        [
            r["name"],
            str(r["threads"]),
            f"{r['users_per_second']:,.0f}",
            _percent(r.get("share_of_ceiling")),
            *(_number(r.get(key)) for key in ("p50_ms", "p99_ms")),
            *(_number(r.get(key)) for key in ("products_p50_ms", "products_p99_ms")),
        ]
        for r in rows
    ]
    head = ["", "threads", "users per second", "of the ceiling", "p50 ms", "p99 ms"]
    return table([*head, "products alone, p50 ms", "p99 ms"], shown)


def serve() -> str:
    """Return latencies of the endpoint by rate."""
    rows = [
        [
            r["model"],
            str(r["reasons"]),
            str(r["rate"]),
            *(f"{r[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
            f"{r['shed']:,}",
        ]
        for r in load("serve")["rows"]
    ]
    return table(
        ["model", "reasons", "requests a second", "p50 ms", "p95 ms", "p99 ms", "shed"], rows
    )


def build_tasks() -> str:
    """Return rows per second of building tasks, beside DuckDB and pandas."""
    rows = [
        [
            r["name"],
            f"{r['rows'] / 1e6:.0f} M",
            f"{r['seconds']:.1f}",
            f"{r['rows_per_second'] / 1e6:.2f} M",
            f"{r['cpu_seconds']:.2f}",
            f"{r['peak_mib']:,.0f}",
            f"{r['bytes_per_interaction']:.1f}",
        ]
        for r in load("build-tasks")["rows"]
    ]
    head = ["", "rows", "seconds", "rows per second", "CPU seconds", "peak MiB"]
    return table([*head, "bytes per row"], rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
