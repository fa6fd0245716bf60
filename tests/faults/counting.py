"""What injected faults did, counted by kind, for the table of docs/reliability.md."""

import json
import os
from pathlib import Path

ALL = os.environ.get("RECMETA_FAULTS") == "1"
"""Whether `make faults` asks for every fault; the default suite injects a sample of each kind."""
OUT = "RECMETA_FAULTS_OUT"
"""Names a file that gets a line of JSON for each test that injected faults."""


class Faults:
    """The faults that one test injects, all of one kind.

    A fault is *survived* where the outcome is as if it had not been, or where the command said what
    is wrong and nothing was harmed. It is *lost* where a row, a list or a model is gone or doubled,
    or something broken was taken for whole.
    """

    def __init__(self, command: str) -> None:
        self.kind = ""
        self.injected = 0
        self.lost: list[str] = []
        self._command = command

    def number(self, sample: int, all_of_them: int) -> int:
        """Return how many faults to inject: a sample, or with `make faults` all of them."""
        return all_of_them if ALL else sample

    def inject(self, kind: str, number: int = 1) -> None:
        """Count faults that are injected now.

        Args:
            kind: what fails and how, in the words of the table; one kind per test.
        """
        assert self.kind in ("", kind), f"a test counts one kind: {self.kind!r} or {kind!r}"
        self.kind = kind
        self.injected += number

    def check(self, holds: bool, what: str) -> None:
        """Count a fault as lost where something does not hold; the test then fails at its end."""
        if not holds:
            self.lost.append(what)

    def finish(self) -> None:
        """Write the counts down, and fail where anything was lost."""
        if not self.injected:
            return
        line = {
            "kind": self.kind,
            "injected": self.injected,
            "lost": len(self.lost),
            "command": self._command,
        }
        if OUT in os.environ:
            with Path(os.environ[OUT]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        assert not self.lost, "\n".join(self.lost)
