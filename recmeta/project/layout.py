"""A project's folder: the DAGs and the feature repository of this package, and a configuration.

They are data of the wheel; in a checkout they stand at its top.
"""

import shutil
from pathlib import Path

from recmeta.errors import UserError

FOLDERS = ("dags", "feature_store")
CONFIGURATION = "recmeta.toml"
README = "README.md"
IGNORED = ".gitignore"
_ENDINGS = (".py", ".yaml")
_ABOUT = """\
# A recmeta project

    recmeta run --dataset ml-100k --config recmeta.toml   # from a log to lists, in ./workspace
    recmeta score new_users.csv                           # lists for the users in a file
    recmeta features apply                                # to Feast (recmeta[feast])
    python -m recmeta.orchestration.local                 # on schedules (recmeta[airflow])

- `recmeta.toml`: every setting with its meaning. The DAGs read the one that RECMETA_CONFIG names.
- `dags/`: Airflow's schedules. `feature_store/`: Feast's definitions. Both are yours to change.
- In the place of `ml-100k` stands the path of a log of your own: `recmeta run --help`.
"""


def lay_out(folder: Path) -> list[str]:
    """Write a project into a folder, which is made where it is not there.

    Returns:
        The names of the files, relative to the folder, sorted.

    Raises:
        UserError: when a file or folder of the project is there already. Nothing is overwritten,
            and nothing written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{str(folder)!r} is a file: name a folder, or one that is not there yet.")
    in_the_way = [name for name in (*FOLDERS, CONFIGURATION, README) if (folder / name).exists()]
    if in_the_way:
        raise UserError(
            f"in {str(folder)!r} there is {', '.join(in_the_way)} already, and nothing is "
            "overwritten: name another folder, or move them away."
        )
    source = _source()
    from recmeta.project.configuration import commented  # PyTorch comes with the learners

    text = commented()
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        for file in _files(source / name):
            shutil.copyfile(file, folder / name / file.name)
    (folder / CONFIGURATION).write_text(text, encoding="utf-8")
    (folder / README).write_text(_ABOUT, encoding="utf-8")
    if not (folder / IGNORED).exists():
        (folder / IGNORED).write_text(
            "workspace/\nworkspace-airflow/\nfeature_store/data/\n__pycache__/\n"
        )
    written = [f"{name}/{file.name}" for name in FOLDERS for file in _files(folder / name)]
    return sorted([*written, CONFIGURATION, README])


def _source() -> Path:
    """Return where the folders are: beside this file, or at the top of the checkout."""
    here = Path(__file__).parent
    for place in (here, here.parents[1]):
        if all((place / name).is_dir() for name in FOLDERS):
            return place
    raise UserError(
        "this installation of recmeta has no DAGs and no feature repository to lay out: install it "
        "from a wheel, a source distribution or a checkout."
    )


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in _ENDINGS)
