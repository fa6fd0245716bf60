"""What pyproject.toml cannot say: the wheel carries the folders that `recmeta init` lays out.

They stand at the top of the repository, where Airflow and Feast look for them, and go into the
wheel as data of `recmeta.project`.
"""

from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("dags", "feature_store")
ENDINGS = (".py", ".yaml")


class BuildWithProject(build_py):
    """Copies the folders into `recmeta/project`; an editable install leaves them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._laid_out():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target), preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        copied = [] if self.editable_mode else [str(target) for _, target in self._laid_out()]
        return [*super().get_outputs(include_bytecode), *copied]

    def _laid_out(self) -> Iterator[tuple[Path, Path]]:
        root = Path(__file__).parent
        for folder in FOLDERS:
            for source in sorted(root.joinpath(folder).iterdir()):
                if source.suffix in ENDINGS:
                    yield source, Path(self.build_lib, "recmeta/project", folder, source.name)


setup(cmdclass={"build_py": BuildWithProject})
