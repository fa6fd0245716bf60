"""A new champion is tried in a process of its own before the running server takes it over.

Its files have been checked by then, but a model that crashes the process that reads it, or never
answers, would take the server down with it. The process has one thread and, beside a server that
answers, a lower priority.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from typing import Literal

from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.serving.ranking import ScoringConfig

log = logging.getLogger(__name__)
Why = Literal["crashed", "slow", "failed"]
PROCESS = "recmeta.endpoint.answers.trial_process"
NICENESS = 10
"""The niceness of a trial beside a server that answers."""
EXIT_OF_USER = 2
"""Exit code for an error that the user can correct; standard output says what it is."""
_LOOK_SECONDS = 0.2
_LAST_CHARACTERS = 4_000
"""The most characters of the process' standard error that go to the log."""


class ChampionRefused(Exception):
    """A champion failed its trial."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why


def try_out(
    workspace: str,
    version: str,
    scoring: ScoringConfig,
    *,
    seconds: float,
    stopping: threading.Event,
    niceness: int,
) -> None:
    """Let another process load a version and answer a question with it.

    Args:
        workspace: where it is.
        seconds: how long that may take.
        stopping: ends the trial when it is set.
        niceness: of the process.

    Raises:
        ChampionRefused: if it does not give an answer.
        UserError: if it cannot answer for a reason that the user can correct, such as a rule that
            does not fit.
    """
    about = {
        "workspace": workspace,
        "version": version,
        "scoring": to_dict(scoring),
        "niceness": niceness,
    }
    process = subprocess.Popen(  # nosec B603  # a list of constants, no shell
        [sys.executable, "-P", "-m", PROCESS],  # -P: nothing is imported from where it is started
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    written: bytes | None = json.dumps(about).encode()
    end = time.monotonic() + seconds
    try:
        while True:
            try:
                said, errors = process.communicate(written, timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                written = None  # it was given
            if stopping.is_set():
                raise ChampionRefused("slow", f"the trial of version {version} was interrupted")
            if time.monotonic() > end:
                message = f"version {version} did not answer within {seconds:g} seconds"
                raise ChampionRefused("slow", message)
    finally:
        process.kill()
        process.communicate()  # which closes its pipes, too
    if process.returncode == 0:
        return
    if process.returncode == EXIT_OF_USER and said:
        raise UserError(said.decode(errors="replace"))
    log.error(errors[-_LAST_CHARACTERS:].decode(errors="replace"))
    if process.returncode < 0:
        message = f"version {version} ended the process that read it, by signal "
        raise ChampionRefused("crashed", f"{message}{-process.returncode}")
    raise ChampionRefused("failed", f"version {version} could not be read or did not answer")
