"""The load of the machine while a model is trained, recorded by MLflow's own monitor on recmeta's
run."""

import contextlib
from collections.abc import Iterator
from typing import Any

SECONDS = 5.0
"""The time between two samples, unless `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` is set."""


@contextlib.contextmanager
def system_metrics(client: Any, run_id: str) -> Iterator[None]:
    """Log CPU, memory, disk, network and, with `nvidia-ml-py`, GPU to a run inside the block.

    `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false` turns it off. A block that is shorter than the
    interval logs nothing; one that resumes a run continues the run's series.
    """
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING as SWITCH
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    if SWITCH.is_set() and not SWITCH.get():
        yield
        return
    monitor = SystemMetricsMonitor(
        run_id,
        sampling_interval=SECONDS,
        resume_logging=True,
        tracking_uri=client.tracking_uri,
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
