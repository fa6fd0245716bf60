"""What the commands of the contest import, once, before they are forked."""

import cli_calls  # noqa: F401
import mlflow
import mlflow.pyfunc  # noqa: F401
import polars  # noqa: F401
import torch

import recmeta.pipeline
import recmeta.steps.upkeep.forget
import recmeta.steps.upkeep.maintenance  # noqa: F401

torch.set_num_threads(1)
