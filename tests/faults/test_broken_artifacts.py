"""One bit is flipped, a file is cut or deleted: nothing broken is taken for whole, nothing that is
read ends the process, and the same command makes it again or says what does."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from counting import Faults
from finished_runs import FinishedRun

from recmeta.errors import Broken, UserError
from recmeta.manifest import find, redoing
from recmeta.metalearn.model import Model
from recmeta.registry.models import versions
from recmeta.registry.models.files import MODEL_FILES
from recmeta.serving.ranking import AdaptedUsers
from recmeta.steps.learning import meta_train
from recmeta.steps.serving import adapt
from recmeta.tasks.task_set import SPLITS, TaskSet, read_tasks
from recmeta.workspace import DIGESTS, Folder, resumed, sealed


def flip(path: Path, drawn: random.Random) -> None:
    """Flip a random bit of a file."""
    content = bytearray(path.read_bytes())
    content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    path.write_bytes(content)


def files_of(run: FinishedRun, *patterns: str) -> list[Path]:
    """Return the files of the workspace that match, none of which only remembers something."""
    found = [path for pattern in patterns for path in Path(run.workspace.path).glob(pattern)]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _read_tasks(folder: Folder) -> None:
    task_set = TaskSet(folder)
    task_set.items(), task_set.statistics(), task_set.history()
    for split in SPLITS:
        task_set.tasks(split)


def _read_states(folder: Folder) -> None:
    states = sealed(folder)
    AdaptedUsers.from_bytes(states.read_bytes("shard-00000.safetensors"))
    read_tasks(states, "tasks-00000.arrow")


def _read_report(folder: Folder) -> None:
    report = sealed(folder)
    report.read_json("evaluation.json"), report.read_json("decision.json")
    report.read_parquet("per_user.parquet")


ARTEFACTS: dict[str, tuple[str, Callable[[Folder], object]]] = {
    "model": ("models/*", Model.load),
    "model in MLflow": ("mlartifacts/**/artifacts/model", Model.load),
    "tasks": ("tasks/*", _read_tasks),
    "states": ("states/*", _read_states),
    "report": ("reports/*", _read_report),
}
READ = {
    "model": (*MODEL_FILES, DIGESTS),
    "report": ("evaluation.json", "decision.json", "per_user.parquet", DIGESTS),
}


FOR_THE_NEXT_BUILD = ("levels.", "log.json", "rows-", "tallies.", "times-", "users.", "changes.")
"""Begin the names of files of tasks that only build-tasks reads, which compares all digests first:
see `test_a_base_that_is_broken_is_not_added_to`."""


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_a_flipped_bit_is_not_accepted(
    finished_run: FinishedRun, faults: Faults, tmp_path: Path, kind: str
) -> None:
    pattern, read = ARTEFACTS[kind]
    (place,) = Path(finished_run.workspace.path).glob(pattern)
    whole = shutil.copytree(place, tmp_path / "whole")
    read(Folder.at(whole))
    drawn = random.Random(kind)
    names = sorted(
        path.name
        for path in whole.iterdir()
        if path.is_file() and not path.name.startswith(".")
        if path.name in READ.get(kind, (path.name,))
        if kind != "tasks" or not path.name.startswith(FOR_THE_NEXT_BUILD)
    )
    for number in range(faults.number(12, 200)):
        name = names[number % len(names)]
        content = (whole / name).read_bytes()
        flip(whole / name, drawn)
        faults.inject("a bit of an artefact is flipped, and it is loaded")
        try:
            read(Folder.at(whole))
        except Broken as error:
            faults.check(str(whole) in str(error), f"{name} is not named: {error}")
            faults.check("backup" in str(error), f"no remedy: {error}")
        else:
            faults.check(False, f"a flipped bit of {kind}'s {name} was accepted")
        (whole / name).write_bytes(content)
    read(Folder.at(whole))


OLD_MODEL = """
import random, sys
from pathlib import Path
from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.workspace import Folder
folder, number = Path(sys.argv[1]), int(sys.argv[2])
for name in sys.argv[3:]:
    drawn, content = random.Random(name), (folder / name).read_bytes()
    for _ in range(number):
        flipped = bytearray(content)
        flipped[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
        (folder / name).write_bytes(flipped)
        try:
            Model.load(Folder.at(folder)).catalogue.items.names().to_pylist()
            print(name, "accepted", flush=True)
        except UserError:
            print(name, "refused", flush=True)
    (folder / name).write_bytes(content)
"""


def test_a_model_without_digests_cannot_end_the_process(
    finished_run: FinishedRun, faults: Faults, tmp_path: Path
) -> None:
    """What an earlier version wrote is validated in full: a flip may stay unseen, not kill."""
    (place,) = Path(finished_run.workspace.path).glob("models/*")
    old = shutil.copytree(place, tmp_path / "old")
    (old / DIGESTS).unlink()
    assert Model.load(Folder.at(old)).catalogue.num_items > 0
    names, number = ("encoder.arrow", "items.arrow", "statistics.arrow"), faults.number(30, 300)
    kind = "a bit of an Arrow file of a model without digests is flipped, and it is loaded"
    faults.inject(kind, len(names) * number)
    done = subprocess.run(
        [sys.executable, "-c", OLD_MODEL, str(old), str(number), *names],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    tried = done.stdout.splitlines()
    faults.check(done.returncode == 0, f"exit {done.returncode}: {done.stderr[-500:]}")
    faults.check(len(tried) == len(names) * number, f"it ended at {tried[-1:]}")
    faults.check(f"{names[0]} refused" in tried, "not one flip was noticed")


def test_flipped_bits_are_found_by_verify(finished_run: FinishedRun, faults: Faults) -> None:
    """Even where size and times are as they were: the disk's own rot."""
    paths = files_of(
        finished_run,
        *("tasks/*/*", "models/*/*", "reports/*/*", "states/*/*", "manifests/*/*.json"),
        *("tables/*/*.parquet", "mlartifacts/**/artifacts/model/*"),
    )
    paths = [path for path in paths if path.name != "latest.json"]
    assert finished_run.losses() == []
    drawn = random.Random(1)
    for number in range(faults.number(8, 150)):
        path = drawn.choice(paths) if number >= len(paths) else paths[number * 7 % len(paths)]
        content = path.read_bytes()
        flip(path, drawn)
        faults.inject("a bit of a workspace is flipped, and `recmeta doctor --verify` looks")
        faults.check(finished_run.losses() != [], f"nobody noticed the flip in {path}")
        path.write_bytes(content)
    assert finished_run.losses() == []


def _harm_and_run(
    run: FinishedRun, faults: Faults, path: Path, harm: Callable[[Path], None], expected: object
) -> None:
    """Harm a file, run again, and count the fault as lost unless all is as it was, or the remedy is
    named and helps."""
    harm(path)
    where = f"{harm.__name__} of {path.relative_to(run.workspace.path)}"
    try:
        run.again()
    except UserError as error:
        told = str(error)
        faults.check(bool(re.search("backup|`recmeta ", told)), f"{where}: no remedy in {told!r}")
        folder = re.search(r"the table (\S+) is broken", told)
        faults.check(folder is not None, f"{where}: {told}")
        if folder is not None:
            shutil.rmtree(folder[1])  # as the message says
            run.again()
    faults.check(run.results() == expected, f"{where}: the result is another one")
    faults.check(run.losses() == [], f"{where}: {run.losses()}")
    run.restore()


def deletion(path: Path) -> None:
    path.unlink()


def truncation(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [deletion, truncation])
def test_what_a_step_left_is_made_again_or_its_remedy_is_named(
    finished_run: FinishedRun, faults: Faults, harm: Callable[[Path], None]
) -> None:
    run, expected = finished_run, finished_run.results()
    paths = files_of(
        run,
        *("tasks/*/*", "models/*/*", "reports/*/*", "states/*/*", "manifests/*/*.json"),
        *("tables/*/*.parquet", "tables/*/_delta_log/*", "mlartifacts/**/artifacts/model/*"),
    )
    drawn = random.Random(harm.__name__)
    for path in drawn.sample(paths, faults.number(1, 30)):
        faults.inject("an output of a step is deleted or cut, and the command is run again")
        _harm_and_run(run, faults, path, harm, expected)


def test_whole_folders_are_made_again(finished_run: FinishedRun, faults: Faults) -> None:
    run, expected = finished_run, finished_run.results()
    folders = [
        *("tasks", "models", "reports", "states", "mlartifacts", "new_users", "manifests"),
        *("tables/users", "tables/items", "tables/quarantine", "tables/item_statistics"),
        *("tables/user_activity", "tables/interactions", "tables/recommendations", "tables"),
    ]
    drawn = random.Random(2)
    for folder in drawn.sample(folders, faults.number(1, 8)):
        faults.inject("a folder of a workspace is deleted, and the command is run again")

        def deletion_of_folder(path: Path) -> None:
            shutil.rmtree(path)

        path = Path(run.workspace.path) / folder
        _harm_and_run(run, faults, path, deletion_of_folder, expected)


def test_shards_of_a_run_that_was_killed_are_not_believed(
    finished_run: FinishedRun, faults: Faults
) -> None:
    """Adapted states and staged lists that are there already, and are not what was written."""
    run, expected = finished_run, finished_run.results()
    for manifest in files_of(run, "manifests/adapt/*.json", "manifests/score/*.json"):
        manifest.unlink()
    (shard,) = files_of(run, "states/*/shard-*.safetensors")
    flip(shard, random.Random(3))
    faults.inject("a bit of a shard that a killed run left is flipped, and it goes on")
    run.again()
    faults.check(run.results() == expected, "the broken shard was gone on from")
    (key,) = (run.workspace / "states").names()
    staged = resumed(run.workspace / "lists" / "KEY")
    staged.write_bytes("shard-00000.parquet", b"some lists")
    staged.seal()
    assert resumed(staged.folder).has("shard-00000.parquet")
    flip(Path(staged.path) / "shard-00000.parquet", random.Random(4))
    faults.inject("a bit of a shard that a killed run left is flipped, and it goes on")
    faults.check(not resumed(staged.folder).has("shard-00000.parquet"), "broken lists count")
    assert find(run.workspace, adapt.STEP, key) is not None


def test_redo_does_a_step_again_from_its_beginning(finished_run: FinishedRun) -> None:
    run, expected = finished_run, finished_run.results()
    (checkpoint, *_) = files_of(run, "models/*/checkpoint/*.safetensors")
    before = checkpoint.stat().st_mtime_ns
    with redoing(["meta-train"], ["meta-train", "evaluate"]):
        result = run.again()
    assert {str(m.step) for m in result.manifests if not m.reused} == {"meta-train"}
    assert checkpoint.stat().st_mtime_ns > before, "it was trained again, not gone on with"
    assert run.results() == expected
    with pytest.raises(UserError, match="Did you mean 'meta-train'"):
        redoing(["meta-trian"], ["meta-train", "evaluate"]).__enter__()


def test_a_copy_is_read_once(finished_run: FinishedRun, tmp_path: Path) -> None:
    """Size and times do not speak for a copy; what was read of it is remembered there."""
    (place,) = Path(finished_run.workspace.path).glob("models/*")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(place), str(copy)], check=True)
    whole = sealed(Folder.at(copy))
    assert whole.losses() == []
    read: list[str] = []

    class Watched(Folder):
        def read_buffer(self, name: str) -> object:
            read.append(name)
            return super().read_buffer(name)

    watched = sealed(Watched(whole.filesystem, whole.path))
    assert watched.losses() == []
    assert read == []
    assert watched.losses(full=True) == []
    assert set(read) > set(MODEL_FILES)
    flip(copy / "items.arrow", random.Random(5))
    assert [loss.rpartition("/")[2] for loss in watched.losses()] == [
        "items.arrow is not what was written"
    ]


def test_old_manifests_count_while_their_outputs_exist(finished_run: FinishedRun) -> None:
    run = finished_run
    for path in files_of(run, "manifests/*/*.json"):
        if path.name != "latest.json":
            stored = json.loads(path.read_text())
            del stored["digests"], stored["digest"]
            path.write_text(json.dumps(stored))
    for path in files_of(run, "tasks/*/digests.json", "models/*/digests.json"):
        path.unlink()
    assert all(manifest.reused for manifest in run.again().manifests)
    (model,) = (run.workspace / "models").names()
    shutil.rmtree(run.workspace.local_path(f"models/{model}"))
    again = {str(m.step): m.reused for m in run.again().manifests}
    assert again.pop("meta-train") is False
    assert all(again.values())
    assert find(run.workspace, meta_train.STEP, model) is not None


def test_a_broken_champion_names_what_mends_it(finished_run: FinishedRun) -> None:
    run = finished_run
    (model,) = files_of(run, "mlartifacts/**/artifacts/model/model.safetensors")
    flip(model, random.Random(6))
    champion = versions.champion(run.workspace)
    assert champion is not None
    with pytest.raises(Broken, match="recmeta run --redo register"):
        Model.load(versions.model_folder(run.workspace, champion))
    with redoing(["register"], ["register"]):
        run.again()
    Model.load(versions.model_folder(run.workspace, champion))
