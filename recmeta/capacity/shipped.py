"""Slopes that stand in where a machine was not measured; `recmeta plan --measure` gave them.

The machine had much other work: docs/scale.md says how far they are off.
"""

from typing import Any

SHIPPED: dict[str, Any] = {
    "machine": "AMD EPYC, 2 cores, 25 GB",
    "measured_on": "2026-11-30, recmeta 0.1.0",
    "steps": {
        "ingest": {
            "cpu_seconds": {"fixed": 0.555, "each": 1.83e-06},
            "disk_bytes": {"fixed": 0.0, "each": 11.0},
            "memory_bytes": {"fixed": 648000000.0, "each": 187.0},
            "largest_rows": 3000000.0,
        },
        "build-tasks": {
            "cpu_seconds": {"fixed": 0.61, "each": 6.8e-07},
            "disk_bytes": {"fixed": 10400000.0, "each": 55.7},
            "memory_bytes": {"fixed": 1260000000.0, "each": 0.0},
            "largest_rows": 3000000.0,
        },
        "meta-train": {
            "cpu_seconds": {"fixed": 7.82, "each": 0.000264},
            "memory_bytes": {"fixed": 1400000000.0, "each": 2.5},
            "disk_bytes": {"fixed": 2210000.0, "each": 38.1},
            "largest_rows": 119681,
        },
        "evaluate": {
            "cpu_seconds": {"fixed": 7.57, "each": 0.000146},
            "memory_bytes": None,
            "disk_bytes": {"fixed": 1550000.0, "each": 11.8},
            "largest_rows": 119681,
        },
        "score": {
            "cpu_seconds": {"fixed": 4.52, "each": 6.41e-07},
            "memory_bytes": None,
            "disk_bytes": {"fixed": 38600.0, "each": 4340.0},
            "largest_rows": 119681,
        },
    },
}
