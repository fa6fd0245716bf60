"""The root of everything that the pipeline keeps."""

import os
import re

from recmeta.errors import UserError
from recmeta.schema import Table
from recmeta.workspace.folder import Folder

REPORT = "report.md"
"""What the last run of the pipeline found."""


class Workspace(Folder):
    """The root of one project's tables, tasks, models, reports and manifests."""

    def __init__(self, location: str | os.PathLike[str] = "workspace") -> None:
        root = Folder.at(location)
        super().__init__(root.filesystem, root.path)
        text = os.fspath(location)
        self.location = self.path if self.is_local else text.split("?")[0].rstrip("/")

    def table_uri(self, table: Table) -> str:
        """Return the address of a Delta table for deltalake and Polars."""
        return f"{self.location}/tables/{table.name}"

    def require(self, table: Table) -> None:
        """Check that a Delta table is here.

        Raises:
            UserError: where it is not.
        """
        if not self.exists(f"tables/{table.name}/_delta_log"):
            raise UserError(
                f"the workspace {self.location} has no {table.name} table: ingest a log first, "
                "with `recmeta ingest`."
            )


def check_delta_path(path: str, what: str) -> None:
    """Raise UserError for a local path at which a Delta table could be written and not be read.

    delta-rs names files by the URL of their folder, and Polars takes the URL for a path, so that
    each character that a URL has to encode leads astray.
    """
    odd = re.search(r"[^A-Za-z0-9/_.,:;=@~!$&'()*+-]", path)
    if odd:
        raise UserError(
            f"{what} is {path!r}: Delta tables cannot be read from a path with {odd[0]!r} in it. "
            "Use a path of plain letters, digits, '-' and '_'."
        )
