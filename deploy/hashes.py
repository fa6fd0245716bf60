"""Turns what pip resolved into requirements that pip installs only if the archives are the same.

    python deploy/hashes.py report.json > requirements.txt

The report is that of `pip install --dry-run --ignore-installed --report`. Each line has a version
and the SHA-256 of the archive that was resolved: for the Python and the platform of that call, and
no other. `make hashes` calls this.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

OWN = "recmeta"
"""It is installed from its own wheel, not from these requirements."""


def requirements(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines in alphabetical order.

    Raises:
        ValueError: for a package without a hash, such as one from a folder.
    """
    found = [one for one in report["install"] if one["metadata"]["name"].lower() != OWN]
    for one in sorted(found, key=lambda one: str(one["metadata"]["name"]).lower()):
        name, version = one["metadata"]["name"], one["metadata"]["version"]
        digest = one["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if not digest:
            raise ValueError(f"{name} {version} was not resolved to an archive with a SHA-256.")
        yield f"{name}=={version} --hash=sha256:{digest}"


def main(arguments: Sequence[str]) -> int:
    """Print the lines."""
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    about = report["environment"]
    lines = list(requirements(report))
    sys.stdout.write(
        f"# For Python {about['python_version']} on {about['sys_platform']} "
        f"{about['platform_machine']}, by `make hashes`. Install with `pip install "
        "--require-hashes --no-deps -r` this file,\n"
        f"# then the wheel of {OWN} with --no-deps.\n"
    )
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
