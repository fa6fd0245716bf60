"""The part that both commands share: one JSON line or Markdown on standard output, and users'
mistakes in one sentence.

It needs no library, so that speed can also be measured if only recmeta's core is installed.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from recmeta.cli.output import quiet_libraries, to_json
from recmeta.errors import UserError

USERS_MISTAKE, INTERRUPTED = 2, 130
Found = tuple[Mapping[str, Any], str]
"""Results as JSON-ready values, and as Markdown."""


def show(work: Callable[[], Found], *, as_json: bool) -> int:
    """Do the work, print its results and return the exit code.

    Args:
        work: what libraries print while it runs goes to standard error.
        as_json: whether one JSON object is printed instead of Markdown.
    """
    # Threads that spin while they wait slow down everything else on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with quiet_libraries(debug=False):
            data, text = work()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return USERS_MISTAKE
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted.\n")
        return INTERRUPTED
    sys.stdout.write(to_json(data) + "\n" if as_json else text.rstrip("\n") + "\n")
    sys.stdout.flush()
    return 0
