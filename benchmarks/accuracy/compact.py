"""The compact form of a protocol's result, which is kept in git: every number, written once.

A result has a record for each learner, metric, training and state, thousands of them, whose names
take more room than their numbers; and a cell's configuration again for every state and seed. Here
numbers stand in lists, one place per learner, under the names that they share; equal configurations
are one; floats have six significant digits. Nothing in it is of single users.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FORMAT_VERSION = 2
SIGNIFICANT_DIGITS = 6
INTERVAL = ("mean", "ci_low", "ci_high", "num_users")
"""The meaning of the first four numbers of a place."""
VERDICTS = ("tie", "better", "worse")
"""A paired difference has a fifth number, the place of its verdict in this. It is that of the
interval before rounding, which may end beside zero."""
NESTED = {
    "rows": ("training", "state", "metric"),
    "paired_differences": ("training", "state", "metric", "baseline"),
    "error_analysis": ("training", "state", "by", "segment"),
}
"""The names under which the numbers of a table are nested, the outermost first."""
PLAIN = (
    *("protocol", "title", "objective", "primary_metric", "lower_is_better", "rules", "command"),
    *("data", "code", "libraries", "cpus", "baselines", "published"),
)
"""The entries that are kept unchanged."""
Record = dict[str, Any]


def compact(result: Mapping[str, Any]) -> Record:
    """Return the compact form of a result of `run.run`."""
    records = [*result["cells"], *result["rows"]]
    learners = list(dict.fromkeys(r["learner"] for r in records))
    configs: list[Any] = []
    cells = [{**c, "chosen": _merged(c, configs)} for c in result["cells"]]
    every = {
        name: value
        for name, value in (cells[0] if cells else {}).items()
        if name != "chosen" and all(c.get(name) == value for c in cells)
    }
    kept: Record = {
        "format_version": FORMAT_VERSION,
        **{name: result[name] for name in PLAIN if name in result},
        "learners": learners,
        "seeds": sorted({seed for row in result["rows"] for seed in row["seeds"]}),
        "numbers": list(INTERVAL),
        "verdicts": list(VERDICTS),
        **{
            table: _nested(result.get(table, ()), names, learners)
            for table, names in NESTED.items()
        },
        "configs": configs,
        "every_cell": every,
        "cells": [{n: v for n, v in c.items() if n not in every} for c in cells],
    }
    rounded: Record = _rounded(kept)
    return rounded


def expand(kept: Mapping[str, Any]) -> Record:
    """Return the result that `compact` was given, except for rounding.

    Raises:
        ValueError: for another format.
    """
    if kept["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"format_version is {kept['format_version']}; this reads {FORMAT_VERSION}: run the "
            "protocol again."
        )
    result: Record = {name: kept[name] for name in PLAIN if name in kept}
    for table, names in NESTED.items():
        result[table] = _in_order(list(_records(kept[table], names, kept["learners"])), kept)
    for row in result["rows"]:
        row["seeds"] = list(kept["seeds"])
    for row in result["error_analysis"]:
        row["metric"] = "mae"
    result["cells"] = [_cell({**kept["every_cell"], **c}, kept["configs"]) for c in kept["cells"]]
    return result


def to_text(kept: Mapping[str, Any]) -> str:
    """Return JSON with a line for each innermost list or object, so that a change shows where it
    is."""
    return _text(kept, 0) + "\n"


def _nested(
    records: Sequence[Mapping[str, Any]], names: tuple[str, ...], learners: Sequence[str]
) -> Record:
    """Return a place per learner under the names, null if the learner has no such record."""
    found: Record = {}
    for record in records:
        inner = found
        for name in names[:-1]:
            inner = inner.setdefault(record[name], {})
        places = inner.setdefault(record[names[-1]], [None] * len(learners))
        numbers = [record[name] for name in INTERVAL]
        if "verdict" in record:
            numbers.append(VERDICTS.index(record["verdict"]))
        places[learners.index(record["learner"])] = numbers
    return found


def _records(nested: Any, names: tuple[str, ...], learners: Sequence[str]) -> Iterator[Record]:
    if not names:
        for learner, numbers in zip(learners, nested, strict=True):
            if numbers is not None:
                record = {"learner": learner, **dict(zip(INTERVAL, numbers, strict=False))}
                told = [VERDICTS[number] for number in numbers[len(INTERVAL) :]]
                yield record | ({"verdict": told[0]} if told else {})
        return
    for value, inner in nested.items():
        for record in _records(inner, names[1:], learners):
            yield {names[0]: value, **record}


def _in_order(records: list[Record], kept: Mapping[str, Any]) -> list[Record]:
    """Return records as a result has them: by training and state, then learner by learner."""
    groups = list(dict.fromkeys((r["training"], r["state"]) for r in records))
    return sorted(
        records,
        key=lambda r: (
            groups.index((r["training"], r["state"])),
            kept["learners"].index(r["learner"]),
        ),
    )


def _merged(cell: Mapping[str, Any], configs: list[Any]) -> list[Record]:
    """Return what a cell chose, once for all states that have it; append its configurations, in
    which the seed, which is the cell's, is left out."""
    merged: list[Record] = []
    for state, chosen in cell["chosen"].items():
        config = _without_seed(chosen["config"])
        if config not in configs:
            configs.append(config)
        found = {**chosen, "config": configs.index(config)}
        same = [m for m in merged if {n: v for n, v in m.items() if n != "states"} == found]
        if same:
            same[0]["states"].append(state)
        else:
            merged.append({"states": [state], **found})
    return merged


def _without_seed(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {name: _without_seed(value) for name, value in config.items() if name != "seed"}
    return [_without_seed(value) for value in config] if isinstance(config, list) else config


def _cell(cell: Record, configs: Sequence[Any]) -> Record:
    chosen = {
        state: {**{n: v for n, v in found.items() if n != "states"}, "config": configs[number]}
        for found in cell["chosen"]
        for number in (found["config"],)
        for state in found["states"]
    }
    return {**cell, "chosen": chosen}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _text(value: Any, depth: int) -> str:
    """Return JSON; what holds an object that holds something is spread over lines."""
    if isinstance(value, Mapping) and (depth == 0 or any(map(_is_large, value.values()))):
        parts = [f"{json.dumps(n)}: {_text(inner, depth + 1)}" for n, inner in value.items()]
        opened, closed = "{", "}"
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        parts = [_text(inner, depth + 1) for inner in value]
        opened, closed = "[", "]"
    else:
        # RFC 8259 knows no NaN.
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    indent = "\n" + " " * (depth + 1)
    return f"{opened}{indent}{(',' + indent).join(parts)}\n{' ' * depth}{closed}"


def _is_large(value: Any) -> bool:
    """Return whether a value has lists or objects within lists or objects."""
    inner = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, Mapping | list) and any(isinstance(i, Mapping | list) for i in inner)
