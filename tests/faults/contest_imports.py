"""What the commands of the contest import, once, before they are forked."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
sys.path.insert(0, str(Path(__file__).parents[2]))

import cli_calls  # noqa: F401
import mlflow
import mlflow.pyfunc  # noqa: F401
import polars  # noqa: F401
import torch

import recmeta.pipeline
import recmeta.steps.upkeep.forget
import recmeta.steps.upkeep.maintenance  # noqa: F401

torch.set_num_threads(1)
