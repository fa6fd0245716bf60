"""What the workers of these tests do: they import nothing of weight."""

import os
import signal
import time
from pathlib import Path

from recmeta.errors import UserError


class Squares:
    """Squares numbers; the least is the slowest."""

    def __call__(self, key: int) -> int:
        time.sleep(0.05 if key == 0 else 0.0)
        return key * key


class Dying:
    """Ends its process once, at a key, as whatever may end it does."""

    def __init__(self, mark: str, key: int, *, always: bool = False) -> None:
        self.mark, self.key, self.always = Path(mark), key, always

    def __call__(self, key: int) -> int:
        if key == self.key and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return -key


class Unreadable:
    """Ends the process that reads it; it is larger than what a pipe takes."""

    def __getstate__(self) -> dict[str, bytes]:
        return {"content": bytes(1_000_000)}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self) -> "Squares":
        return Squares()


class Unmade:
    """Cannot be made by a worker."""

    def __init__(self) -> None:
        raise UserError("there is no such model.")

    def __call__(self, key: int) -> int:
        return key


class Refusing:
    """Says at a key what is the user's to mend."""

    def __call__(self, key: int) -> int:
        if key == 3:
            raise UserError("three is not to be had: ask for four.")
        return key
