"""Which extra of the installation a library belongs to, as the package's own metadata tells.

    pip install recmeta            train, evaluate, adapt and score on data frames
    pip install 'recmeta[NAME]'    more of it: pyproject.toml lists the extras

A library that is not installed is said in one sentence, on the command line and from Python alike.
"""

import contextlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator

from recmeta.errors import UserError

DISTRIBUTION = "recmeta"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:.*;.*\bextra == [\"'](?P<extra>[^\"']+))?")


class MissingExtraError(ImportError, UserError):
    """A library that an optional part of recmeta needs is not installed."""


def require(*modules: str) -> None:
    """Check that libraries are installed, without importing them.

    Args:
        modules: top-level names, as in an import.

    Raises:
        MissingExtraError: for the first that is not.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Within the block, say which extra a library belongs to that is imported and not installed.

    Raises:
        MissingExtraError: in the place of `ModuleNotFoundError`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise missing from error


def missing_extra(error: BaseException) -> MissingExtraError | None:
    """Return what to say of a failed import.

    None where the library is installed, and a part of it is missing, or where recmeta does not name
    it: then the error says more.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.partition(".")[0]
    if extra_of(module) is None or importlib.util.find_spec(module) is not None:
        return None
    return _missing(module)


def extra_of(module: str) -> str | None:
    """Return the first extra that names the library of a top-level module.

    Empty for a library of the core; None for one that recmeta does not name, or where recmeta
    itself is not installed.
    """
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    wanted = _words(module)
    alike = None
    for line in lines:
        found = _REQUIREMENT.match(line)
        assert found is not None, line
        words, extra = _words(found["name"]), found["extra"] or ""
        if words == wanted:
            return extra
        if alike is None and f"-{wanted}-" in f"-{words}-":  # airflow is of apache-airflow
            alike = extra
    return alike


def _words(name: str) -> str:
    """Return a distribution's or a module's name as distributions are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _missing(module: str) -> MissingExtraError:
    extra = extra_of(module)
    name = f"{DISTRIBUTION}[{extra}]" if extra else DISTRIBUTION
    return MissingExtraError(
        f"{module} is not installed, which this needs: pip install '{name}'.", name=module
    )
