"""The run of a protocol from data to JSON: every learner, training and seed, one cell after the
other."""

import dataclasses
import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy import cells, datasets, melu_files, text
from benchmarks.accuracy.cells import Cell, CellResult
from benchmarks.accuracy.learners import LEARNERS, Learner
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.places import folder_of
from benchmarks.accuracy.protocol import Protocol
from benchmarks.accuracy.protocols import PROTOCOLS
from benchmarks.accuracy.summary import summarise
from recmeta.errors import UserError, did_you_mean
from recmeta.progress import Progress, silent
from recmeta.records.provenance import git_commit, library_versions
from recmeta.workspace import Folder

WORK = "work"
ALL = "all"


def run(
    name: str,
    *,
    data: Path | None = None,
    num_seeds: int = 5,
    learners: Sequence[str] | None = None,
    out: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run a protocol and return what `compact` shortens to NAME.json.

    Finished cells are not computed again.

    Args:
        data: the folder of the data sets; by default $RECMETA_SHARED_DATA, else ../shared/data.
        num_seeds: seeds are 0 to this, exclusive.
        learners: names; `all`: all that suit the protocol, but for those that read texts, which
            few data sets have. If None, they are those that the protocol names, else those of
            them that take part unasked.
        out: its folder `work` keeps the cells.

    Raises:
        UserError: for an unknown protocol or learner, a learner that does not suit, or data that
            are absent or not those documented.
    """
    protocol = _known(name, PROTOCOLS, "protocol")
    suited = {n: one for n, one in LEARNERS.items() if protocol.objective in one.objectives}
    suited = _chosen(learners or protocol.learners, suited, name)
    if num_seeds < 1:
        raise UserError(f"seeds is {num_seeds}; it must be at least 1.")
    _check_installed(suited)
    log = protocol.prepare(_read(protocol, data))
    work = Folder.at(out) / WORK / name
    asked_for = _cells(name, protocol, suited, num_seeds)
    with_texts = [n for n, one in suited.items() if one.reads_texts]
    told = text.with_texts(log, data, Folder.at(out) / WORK) if with_texts else log
    logs = {n: told if n in with_texts else log for n in suited}
    # All keys first: they read the sources, which may be edited while this runs.
    keys = {c: c.key(protocol, suited[c.learner], logs[c.learner]) for c in asked_for}
    found: dict[Cell, CellResult] = {}
    for number, (cell, key) in enumerate(keys.items()):
        progress(name, number, len(keys))
        learner = suited[cell.learner]
        found[cell] = cells.run(cell, protocol, learner, logs[cell.learner], work / key)
    progress(name, len(asked_for), len(asked_for))
    return _result(name, protocol, suited, log.about, found, num_seeds)


def _read(protocol: Protocol, data: Path | None) -> Log:
    """Return the protocol's data set, where it is MeLU's out of the authors' own files, too."""
    if protocol.module == "benchmarks.accuracy.states":
        place = folder_of(protocol.dataset, data)
        if melu_files.are_in(place):
            return melu_files.read(place)
    return datasets.read(protocol.dataset, data)


def _known(name: str, known: dict[str, Any], what: str) -> Any:
    if name not in known:
        raise UserError(
            f"there is no {what} {name!r}.{did_you_mean(name, list(known))} "
            f"There are: {', '.join(known)}."
        )
    return known[name]


def _chosen(
    names: Sequence[str] | None, suited: dict[str, Learner], protocol: str
) -> dict[str, Learner]:
    """Return the learners of these names, in the order of `LEARNERS`."""
    if names is None:
        return {n: one for n, one in suited.items() if one.unasked}
    for name in names:
        _known(name, {ALL: None, **suited}, f"learner of {protocol}")
    return {
        n: one for n, one in suited.items() if n in names or (ALL in names and not one.reads_texts)
    }


def _check_installed(learners: dict[str, Learner]) -> None:
    for name, learner in learners.items():
        if learner.library is not None and importlib.util.find_spec(learner.library) is None:
            raise UserError(
                f"{name} needs the library {learner.library}, which is not installed: "
                f"pip install 'recmeta[accuracy]', or leave {name} out with --learners."
            )


def _cells(
    name: str, protocol: Protocol, learners: dict[str, Learner], num_seeds: int
) -> list[Cell]:
    """Return the cells to compute, seed by seed, so that an early stop leaves complete seeds."""
    return [
        Cell(protocol=name, learner=learner, training=training, seed=seed)
        for seed in range(num_seeds)
        for training in protocol.trainings
        for learner, one in learners.items()
        if one.trainings is None or training in one.trainings
    ]


def _result(
    name: str,
    protocol: Protocol,
    learners: dict[str, Learner],
    about: dict[str, Any],
    found: dict[Cell, CellResult],
    num_seeds: int,
) -> dict[str, Any]:
    per_user = {(c.learner, c.training, c.seed): r.per_user for c, r in found.items()}
    baselines = [n for n, one in learners.items() if one.is_baseline]
    command = f"python -m benchmarks.accuracy {name} --seeds {num_seeds}"
    known = {n: one for n, one in LEARNERS.items() if protocol.objective in one.objectives}
    if learners == _chosen([ALL], known, name):
        command += f" --learners {ALL}"
    elif learners != _chosen(protocol.learners, known, name):
        command += f" --learners {','.join(learners)}"
    return {
        "protocol": name,
        "title": protocol.title,
        "objective": protocol.objective,
        "primary_metric": protocol.primary_metric,
        "lower_is_better": protocol.lower_is_better,
        "rules": protocol.rules,
        "command": command,
        "data": about,
        "code": {"recmeta": importlib.metadata.version("recmeta"), "git_commit": git_commit()},
        "libraries": library_versions(),
        "cpus": os.cpu_count(),
        "baselines": baselines,
        **summarise(per_user, protocol, baselines),
        "published": [dataclasses.asdict(p) for p in protocol.published],
        "cells": [found[cell].record for cell in found],
    }
