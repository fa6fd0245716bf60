"""`python -m recmeta.training.prior_fitted`: fit the prior to synthetic logs."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch

from recmeta.metalearn import prior_fitted
from recmeta.metalearn.learner import Params
from recmeta.training.prior_fitted.fit import PriorConfig, draw_episodes, fit_prior

SHIPPED = Path(prior_fitted.__file__).parent / "weights.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the logs, fit the network, and write its weights."""
    parser = argparse.ArgumentParser(prog="python -m recmeta.training.prior_fitted")
    parser.add_argument("--out", type=Path, default=SHIPPED, metavar="FILE", help="the weights")
    parser.add_argument("--seed", type=int, default=PriorConfig.seed)
    parser.add_argument("--logs", type=int, default=PriorConfig.num_logs, metavar="N")
    parser.add_argument("--epochs", type=int, default=PriorConfig.epochs, metavar="N")
    asked = parser.parse_args(arguments)
    if asked.logs < 1 or asked.epochs < 1:
        parser.error("--logs and --epochs must be at least 1.")
    config = PriorConfig(num_logs=asked.logs, epochs=asked.epochs, seed=asked.seed)
    started = time.process_time()

    def said(number: int, loss: float, params: Params) -> None:
        minutes = (time.process_time() - started) / 60
        print(f"pass {number} of {config.epochs}: loss {loss:.4f}, {minutes:.1f} CPU minutes")  # noqa: T201

    weights = fit_prior(config, draw_episodes(config.num_logs, config.seed), said)
    asked.out.write_bytes(safetensors.torch.save(weights))
    print(f"{asked.out}: {asked.out.stat().st_size:,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
