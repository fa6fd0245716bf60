"""Tests that compare floats pass with other processors' instructions and any number of threads.

Each variant is a process of its own, since PyTorch and MKL choose their kernels once. By default
the most delicate tests run with the kernels that any x86 has and two threads, so that both differ
from those in use here; with `RECMETA_SLOW=1`, as `make test-numerics` sets it, all that compare
floats run in all variants.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SLOW = os.environ.get("RECMETA_SLOW") == "1"
ALL = ("tests/metalearn", "tests/evaluation", "tests/serving")
CONFORMANCE = "tests/metalearn/test_every_algorithm.py::TestEveryAlgorithm"
DELICATE = (
    "tests/metalearn/test_implicit_maml.py",
    f"{CONFORMANCE}::test_the_order_of_the_support_is_nothing[implicit-maml]",
    f"{CONFORMANCE}::test_the_order_of_the_support_is_nothing[bayesian-linear]",
    f"{CONFORMANCE}::test_the_order_of_the_support_is_nothing[prototypical]",
    f"{CONFORMANCE}::test_a_user_is_alone_in_the_batch[implicit-maml-float32]",
    f"{CONFORMANCE}OnImplicitFeedback::test_a_user_is_alone_in_the_batch[weighted-ridge-float32]",
    "tests/metalearn/test_bayesian_linear.py::test_posterior_mean_and_spread_are_exact",
    "tests/metalearn/test_bayesian_linear.py::test_leaving_a_row_out_is_fitting_without_it",
    "tests/metalearn/test_inner_loops.py::test_any_number_of_threads_gives_the_same_bits",
    "tests/metalearn/test_maml_gradient.py::test_a_linear_model_adapts_by_formula",
    "tests/evaluation/test_baselines.py::test_biases_solve_the_joint_ridge_regression",
    "tests/serving/test_ranked_lists.py::test_threads_that_share_the_catalogue_find_the_same_lists",
)
"""Solvers, posteriors and gradients against independent ways to the same numbers."""

KERNELS = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"},
    "own": {},
}
"""Variables of PyTorch's and of MKL's kernels: what any x86 has, what those of 2013 have, and what
this processor has."""


def runs_here(kernels: str) -> bool:
    """Return whether the processor has the instructions."""
    return kernels != "avx2" or torch.backends.cpu.get_cpu_capability().startswith("AVX")


slow = pytest.mark.skipif(not SLOW, reason="RECMETA_SLOW=1 runs it")
VARIANTS = [
    ("default", 2),
    pytest.param("default", 1, marks=slow),
    pytest.param("own", 2, marks=slow),
    pytest.param("avx2", 2, marks=slow),
    pytest.param("avx2", 1, marks=slow),
]
"""Kernels, and the number of threads; those of this processor with one thread are in use here."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kernels", "num_threads"), VARIANTS)
def test_floats_are_near_enough(kernels: str, num_threads: int) -> None:
    if not runs_here(kernels):
        pytest.skip("this processor does not have these instructions")
    ours = {"RECMETA_SLOW", *(name for variables in KERNELS.values() for name in variables)}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= KERNELS[kernels]
    for name in ("OMP_NUM_THREADS", "RECMETA_TEST_THREADS"):
        environment[name] = str(num_threads)
    tests = ALL if SLOW else DELICATE
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-2000:]
