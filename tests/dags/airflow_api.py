"""The public REST API of a running Airflow, as far as the tests need it."""

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from recmeta.orchestration.local import LocalConfig, login

Run = dict[str, Any]
ATTEMPTS = 5


class AirflowApi:
    """A client that is logged in."""

    def __init__(self, config: LocalConfig) -> None:
        self.url = config.airflow_url
        user, password = login(config)
        self._token = ""
        self._token = self._call("POST", "/auth/token", {"username": user, "password": password})[
            "access_token"
        ]

    def trigger(self, dag: str, conf: dict[str, Any]) -> str:
        """Start a run and return its id, which is chosen here: asked twice, there is one run."""
        body = {"conf": conf, "logical_date": None, "dag_run_id": f"test-{uuid.uuid4()}"}
        run_id: str = self._call("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"]
        return run_id

    def pause(self, dag: str) -> None:
        """Let a DAG start no run."""
        self._call("PATCH", f"/api/v2/dags/{dag}?update_mask=is_paused", {"is_paused": True})

    def runs(self, dag: str) -> list[Run]:
        """Return all runs of a DAG."""
        runs: list[Run] = self._call("GET", f"/api/v2/dags/{dag}/dagRuns?limit=100")["dag_runs"]
        return runs

    def tasks(self, dag: str, run_id: str) -> list[Run]:
        """Return the task instances of a run."""
        address = f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances"
        tasks: list[Run] = self._call("GET", address)["task_instances"]
        return tasks

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, attempts: int = ATTEMPTS
    ) -> Any:
        """Return the answer. What Airflow notes of a request it writes in its event loop; on SQLite
        that waits in vain for a request that holds the lock, and ends with 500: ask again."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code != 500 or attempts == 1:
                answer = error.read().decode(errors="replace")
                raise AssertionError(f"{method} {path}: {error.code} {answer}") from error
        time.sleep(1)
        return self._call(method, path, body, attempts - 1)


def wait_until(what: str, found: Callable[[], Any], seconds: float = 300) -> Any:
    """Return the first truthy value of `found`; fail after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds} s")
