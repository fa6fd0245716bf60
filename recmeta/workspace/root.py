"""The root of everything that the pipeline stores."""

import contextlib
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from recmeta.errors import UserError
from recmeta.schema import Table
from recmeta.workspace import format_version, temporary
from recmeta.workspace.folder import Folder
from recmeta.workspace.object_store import storage_options
from recmeta.workspace.writing import FOLDER, FileLocks, Leases, Writers

_LOG = logging.getLogger(__name__)

REPORT = "report.md"
"""The report of the last run of the pipeline."""


class Workspace(Folder):
    """The root of one project's tables, tasks, models, reports and manifests."""

    def __init__(
        self,
        location: str | os.PathLike[str] = "workspace",
        *,
        wait: float = 0.0,
        say: Callable[[str], None] = _LOG.warning,
    ) -> None:
        """Open a workspace; nothing is made yet.

        Args:
            location: a local path or an object-store URL.
            wait: seconds to wait for another command that writes to it.
            say: called once with what is waited for.

        Raises:
            UserError: if a URL cannot be opened, or has credentials in it.
        """
        if "@" in urlsplit(os.fspath(location)).netloc:
            raise UserError(
                "the address of the workspace has credentials in it, which would be written down "
                "with it: leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        root = Folder.at(location)
        super().__init__(root.filesystem, root.path, root=self)
        text = os.fspath(location)
        self.location = self.path if self.is_local else text.split("?")[0].rstrip("/")
        self._writers = Writers(self._lock_name(), self._locks, wait, say)

    @contextlib.contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[None]:
        """Be the only one that writes within the block. See `recmeta.workspace.writing`.

        Temporary files of killed commands are deleted first.

        Args:
            alone: whether no training and the like may go on, either.

        Raises:
            UserError: for a workspace of a later version of recmeta.
            WorkspaceBusyError: if another command writes for longer than this one waits.
        """
        with self._writers.writing(alone=alone) as is_first:
            if is_first:
                self.check_format()
                temporary.sweep(self._temporaries())
            with temporary.tempfile_in(self._temporaries()):
                yield

    @contextlib.contextmanager
    def working_on(self, name: str | None = None) -> Iterator[None]:
        """Be the only one that does a long piece of work within the block; others may write.

        Temporary files of killed commands are deleted first.

        Args:
            name: of the work, such as the step and its key; if None, a unique name.

        Raises:
            WorkspaceBusyError: if another process does it for longer than this one waits.
        """
        with self._writers.working_on(name or uuid.uuid4().hex):
            temporary.sweep(self._temporaries())
            with temporary.tempfile_in(self._temporaries()):
                yield

    def check_format(self) -> "Workspace":
        """Return this workspace. Raises UserError if a later version of recmeta made it."""
        format_version.check(self)
        return self

    def check_lock(self) -> None:
        """Raise UserError if the lock that this thread holds was lost. Call this before a
        commit."""
        self._writers.check()

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Yield a temporary folder of this machine, which is deleted after the block.

        It is in the workspace where that is local, as whatever `tempfile` makes within `writing`
        and `working_on`. Should the process be killed, the next command that works or writes here
        deletes it.
        """
        with (
            temporary.tempfile_in(self._temporaries()),
            tempfile.TemporaryDirectory(dir=self._temporary()) as folder,
        ):
            yield folder

    def temporary_copy(self) -> str:
        """Return a new temporary folder of this machine for files that are read at once.

        It exists until this process ends or stops writing. If the workspace cannot be written to,
        the folder is outside it.
        """
        try:
            folder = self._temporary()
        except OSError:
            folder = temporary.folder_of_mine(temporary.of_the_machine())
        return tempfile.mkdtemp(dir=folder)

    def process_id(self) -> str:
        """Return the name by which others can tell that this process is alive (`is_alive`)."""
        return self._temporary().name

    def is_alive(self, process_id: str) -> bool | None:
        """Return whether the process of that name is alive; None if that cannot be determined."""
        return temporary.is_alive(self._temporaries(), process_id)

    def _temporary(self) -> Path:
        return temporary.folder_of_mine(self._temporaries())

    def _temporaries(self) -> Path:
        return Path(self.path) / temporary.FOLDER if self.is_local else temporary.of_the_machine()

    def _lock_name(self) -> str:
        return os.path.realpath(self.path) if self.is_local else self.location

    def _locks(self) -> FileLocks | Leases:
        if self.is_local:
            return FileLocks(Path(self.path) / FOLDER)
        return Leases(self.location)

    def table_uri(self, table: Table) -> str:
        """Return the address of a Delta table for deltalake and Polars."""
        return f"{self.location}/{table.path}"

    @property
    def storage_options(self) -> dict[str, str] | None:
        """The options that deltalake and Polars take with a table's address; None on a local
        disk."""
        return storage_options(self.location)

    def require_made(self) -> None:
        """Raise UserError where there is no workspace here, as where its path is misspelled."""
        if not self.exists("tables"):
            raise UserError(f"there is no workspace at {self.location}: check --workspace.")

    def require(self, table: Table) -> None:
        """Check that a Delta table exists.

        Raises:
            UserError: if it is not.
        """
        if not self.exists(f"{table.path}/_delta_log"):
            raise UserError(
                f"the workspace {self.location} has no {table.name} table: ingest a log first, "
                "with `recmeta ingest`."
            )


def check_delta_path(path: str, what: str) -> None:
    """Raise UserError for a local path at which a Delta table could be written but not read.

    delta-rs names files by the URL of their folder, and Polars takes the URL for a path, so that
    any character that a URL has to encode leads to a wrong path.
    """
    odd = re.search(r"[^A-Za-z0-9/_.,:;=@~!$&'()*+-]", path)
    if odd:
        raise UserError(
            f"{what} is {path!r}: Delta tables cannot be read from a path with {odd[0]!r} in it. "
            "Use a path of plain letters, digits, '-' and '_'."
        )
