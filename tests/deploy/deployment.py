"""The files of deploy/, read."""

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OURS = ("recmeta/pipeline", "recmeta/endpoint")
"""The images that deploy/Dockerfile makes."""


def compose() -> dict[str, Any]:
    """Return docker-compose.yml."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    return found


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, continued lines put together."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    found: dict[str, list[tuple[str, str]]] = {}
    for line in filter(str.strip, lines):
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = [("FROM", base)]
        else:
            found[name].append((instruction, rest.strip()))
    return found


def files_of_secrets() -> dict[str, str]:
    """Return what draw_secrets.py writes."""
    space: dict[str, Any] = {"__name__": "draw_secrets", "__file__": str(DEPLOY / "x.py")}
    exec(compile((DEPLOY / "draw_secrets.py").read_text(), "draw_secrets.py", "exec"), space)
    found: dict[str, str] = space["files"]()
    return found


def env_of(text: str) -> dict[str, str]:
    """Return the variables of an env file."""
    return dict(line.split("=", 1) for line in text.splitlines())


def command_of(found: Any) -> list[str]:
    """Return a command as Compose or a Dockerfile has it, as a list."""
    if isinstance(found, str):
        return [str(x) for x in yaml.safe_load(found)] if found[0] == "[" else shlex.split(found)
    return [str(x) for x in found]
