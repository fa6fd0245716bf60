"""Whether this installation, this machine and these stores are fit for the pipeline.

Every check is a function that says what it found and, where something is wrong, the remedy. None
of them changes anything that stays.
"""

import dataclasses
import functools
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from recmeta.errors import Broken, UserError
from recmeta.errors.causes import explained
from recmeta.tasks.threads import num_cores

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from recmeta.workspace import Workspace

Status = Literal["ok", "warn", "fail"]
PACKAGE: Final = "recmeta"
PYTHONS: Final = ((3, 11), (3, 14))
"""The oldest version, and the first that is too new."""
NEEDED_EXTRA: Final = "pipeline"
NOT_ALWAYS_NEEDED: Final = {
    "airflow": "schedules cannot run without it",
    "feast": "the feature store cannot be used without it",
}
"""By extra, what is missed without its library."""
INSTALL: Final = "run `make setup`, or `pip install -c constraints.txt -e '.[pipeline]'`"
GIGABYTE: Final = 1024**3
FREE_TO_WORK: Final = GIGABYTE // 4
FREE_TO_BE_EASY: Final = 2 * GIGABYTE
SECONDS: Final = "5"
"""For which a remote MLflow server is waited for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """`warn`: some of it works not, or worse. `fail`: the pipeline does not run."""
    found: str
    remedy: str = ""
    """What to do; empty where nothing need be done."""


def examine(location: str, *, verify: bool = False) -> list[Check]:
    """Return all checks of the installation, the machine and a workspace.

    Args:
        location: of the workspace: a folder or an object-store URL.
        verify: read every file of the workspace that a step left. Otherwise it is looked at, for
            the last time that each step was done, whether they are there and have been touched.
    """
    checks = [_python(), *_dependencies()]
    checks += _guarded("constraints", _constraints)
    checks += _guarded("torch", _torch)
    try:
        from recmeta.workspace import Workspace

        workspace = Workspace(location)
    except (ImportError, UserError) as error:
        return [*checks, Check(name="workspace", status="fail", found=str(error), remedy=INSTALL)]
    for name, check in (
        ("workspace", _writable),
        ("disk", _disk),
        ("tables", _tables),
        ("mlflow", _mlflow),
    ):
        checks += _guarded(name, functools.partial(check, workspace))
    has_models = checks[-1].status != "fail"
    outputs = functools.partial(_outputs, workspace, full=verify, has_models=has_models)
    return checks + _guarded("outputs", outputs)


def _guarded(name: str, check: Callable[[], Check | None]) -> list[Check]:
    """Return what a check says; one that breaks is itself a finding."""
    try:
        found = check()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        why = explained(error)
        if why is not None:
            return [Check(name=name, status="fail", found=why, remedy="do what the message says")]
        text = f"{type(error).__name__}: {error}"
        return [Check(name=name, status="fail", found=text, remedy=_remedy(error))]
    return [] if found is None else [found]


def _remedy(error: BaseException) -> str:
    return INSTALL if isinstance(error, ImportError) else "see the message; --debug shows more"


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Check(name="python", status="ok", found=found)
    remedy = "install Python 3.11, 3.12 or 3.13 and make the environment with it"
    return Check(name="python", status="fail", found=found, remedy=remedy)


def _dependencies() -> Iterator[Check]:
    """Yield a check per library of the core and of the pipeline."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Check(name="packaging", status="fail", found="not installed", remedy=INSTALL)
        return
    try:
        lines = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Check(name=PACKAGE, status="fail", found="not installed", remedy=INSTALL)
        return
    for requirement in map(Requirement, lines):
        extra = _extra_of(requirement)
        if extra is None or requirement.name == PACKAGE:
            continue
        name, wanted = requirement.name, str(requirement.specifier)
        missed = NOT_ALWAYS_NEEDED.get(extra)
        broken: Status = "warn" if missed else "fail"
        remedy = f"pip install '{PACKAGE}[{extra}]', if you want it" if missed else INSTALL
        version = _version(name)
        if version is None:
            found = f"not installed{f': {missed}' if missed else ''}"
            yield Check(name=name, status=broken, found=found, remedy=remedy)
        elif not requirement.specifier.contains(version, prereleases=True):
            found = f"{version}, which is not {wanted}"
            yield Check(name=name, status=broken, found=found, remedy=remedy)
        else:
            yield Check(name=name, status="ok", found=version)


def _extra_of(requirement: "Requirement") -> str | None:
    """Return which of the extras that are looked at has a requirement; None where none has it."""
    extras = (NEEDED_EXTRA, *NOT_ALWAYS_NEEDED)
    marker = requirement.marker
    found = (e for e in extras if marker is None or marker.evaluate({"extra": e}))
    return next(found, None)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _constraints() -> Check | None:
    """Compare what is installed with the checkout's constraints.txt; None outside of a checkout."""
    path = Path(__file__).parents[1] / "constraints.txt"
    if not path.exists():
        return None
    pins = dict(
        line.strip().split("==")
        for line in path.read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    installed = {name: version for name in pins if (version := _version(name)) is not None}
    other = [f"{n} {v}" for n, v in installed.items() if v.split("+")[0] != pins[n]]
    if not other:
        found = f"all {len(installed)} that are installed are as pinned"
        return Check(name="constraints", status="ok", found=found)
    return Check(
        name="constraints",
        status="warn",
        found=f"{len(other)} of {len(installed)} differ from the pins: {', '.join(other[:5])}",
        remedy="run `touch constraints.txt && make setup` to install what was tested together",
    )


def _torch() -> Check:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    threads = f"{torch.get_num_threads()} threads on {num_cores()} CPUs"
    if torch.cuda.is_available():
        found = f"{build} build, {torch.cuda.get_device_name()}, {threads}"
        return Check(name="torch", status="ok", found=found)
    found = f"{build} build, no GPU in use, {threads}"
    if not Path("/dev/nvidia0").exists():
        return Check(name="torch", status="ok", found=found)
    remedy = (
        "the driver is older than this build of PyTorch, or the GPU is hidden: update it, or look "
        "at CUDA_VISIBLE_DEVICES"
        if torch.version.cuda
        else "there is a GPU: install a CUDA build of PyTorch to use it"
    )
    return Check(name="torch", status="warn", found=found, remedy=remedy)


def _writable(workspace: "Workspace") -> Check:
    """Write, read and delete a file."""
    from recmeta.workspace.temporary import FOLDER

    name = f".doctor-{os.getpid()}"
    existed = workspace.exists("")
    workspace.check_format()
    try:
        workspace.write_bytes(name, b"recmeta")
        whole = workspace.read_bytes(name) == b"recmeta"
        workspace.filesystem.delete_file(f"{workspace.path}/{name}")
        if workspace.is_local and not existed and os.listdir(workspace.path) == [FOLDER]:
            shutil.rmtree(workspace.path)
    except OSError as error:
        return Check(
            name="workspace",
            status="fail",
            found=f"{workspace.location}: {error}",
            remedy="allow reading and writing there, or use another --workspace",
        )
    assert whole, "what was written is read"
    state = "can be read and written" if existed else "is not there yet and can be made"
    return Check(name="workspace", status="ok", found=f"{workspace.location} {state}")


def _disk(workspace: "Workspace") -> Check | None:
    if not workspace.is_local:
        return None
    place = Path(workspace.path)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / GIGABYTE:.1f} GB free"
    if free >= FREE_TO_BE_EASY:
        return Check(name="disk", status="ok", found=found)
    status: Status = "warn" if free >= FREE_TO_WORK else "fail"
    remedy = "free some space, or use a --workspace on another disk"
    return Check(name="disk", status=status, found=found, remedy=remedy)


def _tables(workspace: "Workspace") -> Check:
    from recmeta.logs import whole
    from recmeta.schema import TABLES

    found = []
    for table in TABLES:
        if not whole.is_made(workspace, table):
            continue
        try:
            found.append(f"{table.name} {whole.check(workspace, table).version()}")
        except Broken as error:
            what, _, remedy = str(error).partition(". ")
            return Check(name="tables", status="fail", found=what, remedy=remedy)
    text = f"at version: {', '.join(found)}" if found else "none yet: `recmeta ingest` makes them"
    return Check(name="tables", status="ok", found=text)


def _outputs(workspace: "Workspace", *, full: bool, has_models: bool) -> Check:
    """Look at what the steps left; at the models only where MLflow answers."""
    from recmeta.steps.upkeep import verify

    found = verify.run(workspace, full=full, has_models=has_models)
    if found.losses:
        return Check(
            name="outputs",
            status="fail",
            found=" ".join(f"{loss.what}." for loss in found.losses),
            remedy=" ".join(dict.fromkeys(loss.remedy for loss in found.losses)),
        )
    if not found.num_manifests:
        return Check(name="outputs", status="ok", found="no step has been done yet")
    count = f"{found.num_manifests} steps' outputs and {found.num_versions} versions of the model"
    if not full:
        text = f"{count} are there, untouched since they were last read; --verify reads them all"
        return Check(name="outputs", status="ok", found=text)
    text = f"{count}, and {found.num_tables} tables, are what was written"
    return Check(name="outputs", status="ok", found=text)


def _mlflow(workspace: "Workspace") -> Check:
    from recmeta.registry import tracking
    from recmeta.registry.models import versions
    from recmeta.registry.models.forgotten import why_retrain

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SECONDS)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = tracking.store_name(workspace)
    if not tracking.has_store(workspace):
        return Check(name="mlflow", status="ok", found=f"{store} is not there yet")
    try:
        champion = versions.champion(workspace)
    except Exception as error:  # MLflow's, SQLAlchemy's or the network's
        first_line = str(error).strip().partition("\n")[0]
        return Check(
            name="mlflow",
            status="fail",
            found=f"{store}: {first_line}",
            remedy="start that server or repair that database, or change MLFLOW_TRACKING_URI",
        )
    if champion is not None and (why := why_retrain(champion)) is not None:
        return Check(
            name="mlflow",
            status="warn",
            found=f"{store}: version {champion.version} is champion, and {why}",
            remedy="train again: `recmeta run`, or the DAG meta_train; --force promotes on a tie",
        )
    reigning = f"version {champion.version} is champion" if champion else "no champion yet"
    return Check(name="mlflow", status="ok", found=f"{store}: {reigning}")
