"""The owner of a lock or a temporary folder: a description of this process on which others can
act."""

import dataclasses
import datetime
import functools
import json
import os
import platform
import sys
import uuid
from typing import Self

from recmeta import strict_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that writes to a workspace."""

    id: str
    """Unique among all processes on all machines."""
    command: str
    """The program and its first argument, such as `recmeta ingest`; the others may hold secrets."""
    pid: int
    host: str
    since: str
    """When it became the owner: ISO 8601, UTC."""

    @classmethod
    def here(cls) -> Self:
        """Return this process, as the owner of something from now on."""
        return cls(
            id=_id(os.getpid()),
            command=_command(),
            pid=os.getpid(),
            host=platform.node(),
            since=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """Return the owner that `to_bytes` wrote; None for anything else."""
        try:
            fields = strict_json.loads(content)
            return cls(**{f.name: fields[f.name] for f in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError):
            return None

    def to_bytes(self) -> bytes:
        """Return the owner as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    def __str__(self) -> str:
        where = "" if self.host == platform.node() else f" on {self.host}"
        return f"`{self.command}` (process {self.pid}{where}, since {self.since})"


@functools.lru_cache(maxsize=1)
def _id(pid: int) -> str:
    """Return a name for the process; `pid` is there so that a fork gets one of its own."""
    return f"{platform.node()}-{pid}-{uuid.uuid4().hex[:8]}"


def _command() -> str:
    program = os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else sys.executable)
    if program == "__main__.py":  # python -m package
        program = os.path.basename(os.path.dirname(sys.argv[0])) or program
        program = "recmeta" if program == "cli" else program
    if program == "recmeta":
        arguments = [a for a in sys.argv[1:] if not a.startswith("-")]
        program = " ".join([program, *arguments[:1]])
    return program
