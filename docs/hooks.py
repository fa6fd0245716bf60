"""What MkDocs does beside rendering: generated pages, formulas, and links that lead out of docs/.

Pages link to files of the repository (`../benchmarks/README.md`, `../LICENSE`), as a reader of the
repository needs it. In the site such a file is a page or a download under `repository/`; what is a
folder, or is no file of the repository, stays as text. Formulas become MathML, which browsers draw
without a script.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel

from docs import reference

ROOT = Path(__file__).parents[1]
DOCS = "docs"
SITE = "repository"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
CODE = re.compile(r"(^```.*?^```|^(?: {4}|\t).*?$)", re.DOTALL | re.MULTILINE)
MATH = re.compile(r"(`[^`\n]+`)|\$\$(.+?)\$\$|\$((?:[^$\n\\]|\\.)+)\$", re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and the files of the repository that pages link to."""
    for place, made in reference.PAGES.items():
        files.append(File.generated(config, place, content=made()))
    waiting = [
        (f"{DOCS}/{file.src_uri}", file.content_string) for file in files.documentation_pages()
    ]
    while waiting:
        page, text = waiting.pop()
        for target in sorted(_outside(page, text)):
            if files.get_file_from_path(f"{SITE}/{target}") is None:
                file = File.generated(
                    config,
                    f"{SITE}/{target}",
                    abs_src_path=str(ROOT / target),
                    inclusion=InclusionLevel.NOT_IN_NAV,
                )
                files.append(file)
                if target.endswith(".md"):
                    waiting.append((target, file.content_string))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Lead links out of docs/ to where the site has their targets."""
    place = page.file.src_uri
    own = place.removeprefix(f"{SITE}/") if place.startswith(f"{SITE}/") else f"{DOCS}/{place}"

    def led(match: "re.Match[str]") -> str:
        sign, label, target, anchor = match[1], match[2], match[3], match[4] or ""
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = _resolved(own, target)
        if (ROOT / path).is_dir():
            return label
        if not (ROOT / path).is_file():  # a generated page, or a mistake that MkDocs names
            return match[0]
        in_docs = path.removeprefix(f"{DOCS}/")
        is_part = in_docs != path and files.get_file_from_path(in_docs) is not None
        where = in_docs if is_part else f"{SITE}/{path}"
        relative = posixpath.relpath(where, posixpath.dirname(place) or ".")
        return f"{sign}[{label}]({relative}{anchor})"

    parts = CODE.split(markdown)
    parts[::2] = [MATH.sub(_drawn, LINK.sub(led, part)) for part in parts[::2]]
    return "".join(parts)


def _drawn(match: "re.Match[str]") -> str:
    """Return a formula as MathML; code stays as it is."""
    code, block, inline = match.groups()
    if code:
        return str(code)
    if block:
        return f'<div class="formula">{convert(block, display="block")}</div>'
    return f"<span>{convert(inline)}</span>"  # a line may begin with it


def _resolved(page: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def _outside(page: str, text: str) -> set[str]:
    """Return the files of the repository outside of the site that a page links to."""
    found = set()
    for part in CODE.split(text)[::2]:
        for _, _, target, _ in LINK.findall(part):
            if target and not re.match(r"[a-z]+:", target):
                path = _resolved(page, target)
                hidden = path.endswith(".py") or path.startswith(f"{DOCS}/examples/")
                if (ROOT / path).is_file() and (hidden or not path.startswith(f"{DOCS}/")):
                    found.add(path)
    return found
