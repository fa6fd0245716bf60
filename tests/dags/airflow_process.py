"""Run a piece of Python in a process of its own with its own Airflow home, and read its answer.

Airflow reads its configuration when it is imported and sets up logging for the whole process: it
has no place in the process of the tests.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

DAGS = Path(__file__).parents[2] / "dags"
ANSWER = "ANSWER "


@dataclasses.dataclass(frozen=True, kw_only=True)
class AirflowProcess:
    """An Airflow home with an initialised database."""

    env: dict[str, str]

    @classmethod
    def create(cls, home: Path, **settings: str) -> "AirflowProcess":
        """Make a home and migrate its database."""
        process = cls.at(home, **settings)
        process._run([sys.executable, "-m", "airflow", "db", "migrate"])
        return process

    @classmethod
    def at(cls, home: Path, **settings: str) -> "AirflowProcess":
        """Return what runs in a home whose database is there."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "RECMETA_"))}
        clean.pop("MLFLOW_TRACKING_URI", None)
        env = {
            **clean,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **settings,
        }
        return cls(env=env)

    def ask(self, script: str, **settings: str) -> Any:
        """Run a script and return the JSON value that it passes to `answer`."""
        prelude = (
            f"import json\ndef answer(value): print({ANSWER!r} + json.dumps(value), flush=True)\n"
        )
        output = self._run([sys.executable, "-c", prelude + script], **settings)
        answers = [line for line in output.splitlines() if line.startswith(ANSWER)]
        assert answers, output[-4000:]
        return json.loads(answers[-1].removeprefix(ANSWER))

    def _run(self, command: list[str], **settings: str) -> str:
        done = subprocess.run(
            command, env={**self.env, **settings}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout
