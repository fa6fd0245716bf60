"""recmeta: meta-learned recommendations for users who are new.

`recmeta.open_workspace(location)` is the way in for analysts; it is imported when it is first asked
for, so that `import recmeta` stays light.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return `open_workspace`, and with it all that it needs."""
    if name == "open_workspace":
        import importlib

        from recmeta import extras

        with extras.explained():
            return importlib.import_module("recmeta.analysis.open_workspace").OpenWorkspace
    raise AttributeError(f"module 'recmeta' has no attribute {name!r}")
