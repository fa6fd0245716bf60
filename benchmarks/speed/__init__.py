"""Speed against peers: a module or package per benchmark, run by `python -m benchmarks.speed`."""
