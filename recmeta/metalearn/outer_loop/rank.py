"""The program of the processes of a training: torchrun, and under it each rank.

    python -m recmeta.metalearn.outer_loop.rank agent PARENT FOLDER PROCESSES RESTARTS
    python -m recmeta.metalearn.outer_loop.rank work PARENT FOLDER

See `recmeta.metalearn.outer_loop.processes`, which writes FOLDER.
"""

import os
import sys

from recmeta.children import die_with
from recmeta.workspace import Folder


def main(arguments: list[str]) -> None:
    """Run torchrun, or one rank; either ends when the process PARENT ends, which started it."""
    role, parent, folder, *numbers = arguments
    die_with(int(parent))
    if role == "work":
        from recmeta.metalearn.outer_loop.processes import work

        work(Folder.at(folder))
        return
    from torch.distributed.run import main as torchrun

    processes, restarts = numbers
    torchrun(
        [
            "--standalone",
            "--local-addr=127.0.0.1",
            f"--nproc-per-node={processes}",
            f"--max-restarts={restarts}",
            "--monitor-interval=0.1",
            "-m",
            "recmeta.metalearn.outer_loop.rank",
            "work",
            str(os.getpid()),
            folder,
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
