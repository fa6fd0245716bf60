"""The code that a result came from: a fingerprint of a module and of everything that it imports
from this repository."""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("recmeta", "benchmarks")


def fingerprint(*modules: str) -> str:
    """Return 16 hex digits of the code of these modules and of all modules of this repository that
    they import, directly or indirectly. Comments, docstrings and layout do not count."""
    seen: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        path = _path(module)
        seen[module] = _bare(path)
        waiting += _imported(path)
    digest = hashlib.sha256()
    for module in sorted(seen):
        digest.update(module.encode() + b"\0" + hashlib.sha256(seen[module]).digest())
    return digest.hexdigest()[:16]


@functools.cache
def _bare(path: Path) -> bytes:
    """Return a module's syntax tree as text, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return ast.dump(tree).encode()


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@functools.cache
def _imported(path: Path) -> tuple[str, ...]:
    return tuple(_walk(path))


def _walk(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [node.module, *[n for n in inner if _is_module(n)]]
        else:
            continue
        # A package's own file names everything that the package offers, but runs none of it.
        ours = (name for name in names if name.split(".")[0] in PACKAGES)
        yield from (name for name in ours if name not in PACKAGES)


def _is_module(name: str) -> bool:
    if name.split(".")[0] not in PACKAGES:
        return False
    parent, _, last = name.rpartition(".")
    package = _path(parent)
    if package.name != "__init__.py":
        return False
    return any((package.parent / inner).exists() for inner in (f"{last}.py", f"{last}/__init__.py"))


def _path(module: str) -> Path:
    found = importlib.util.find_spec(module)
    assert found is not None, module
    assert found.origin is not None, module
    return Path(found.origin)
