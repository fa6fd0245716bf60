"""The files of a page that runs a graph in a browser: no server computes, and no answer is sent.

It is the endpoint's own page, with another `api.js` beneath it and other parts in its HTML. ONNX
Runtime Web is not part of this package: its three files are copied from the npm package, or put
there by hand.
"""

import importlib.resources
import re
from pathlib import Path

from recmeta.errors import UserError

HTML, API = "index.html", "api.js"
SHARED = ("try.js", "curve.js", "dom.js", "style.css", "icon.svg")
"""Files of the endpoint's page that are the same here."""
PARTS = {
    "files": """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; \
base-uri 'none'; form-action 'none'">
  <meta name="referrer" content="no-referrer">
  <link rel="icon" href="icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="style.css">
  <script type="module" src="try.js"></script>""",
    "pages": '<span class="brand">recmeta</span>',
    "where": " It is computed in this page, and no answer leaves this device.",
    "before": '<p id="loading" class="hint" role="status">The model is loading …</p>',
}
"""What stands in place of the parts of the endpoint's HTML that only a server has."""
_PART = re.compile(r"<!-- part: (\w+) -->.*?<!-- /part -->", re.DOTALL)
RUNTIME_FOLDER = "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What the page loads of ONNX Runtime Web."""


def page_files() -> dict[str, bytes]:
    """Return the content of each file of the page, by its name."""
    package = importlib.resources.files("recmeta")
    shared, own = package / "endpoint" / "page", package / "exporting" / "page"
    found = {name: (shared / name).read_bytes() for name in SHARED}
    html = _PART.sub(lambda part: PARTS[part[1]], (shared / HTML).read_text("utf-8"))
    return found | {HTML: html.encode(), API: (own / API).read_bytes()}


def runtime_files(location: str) -> dict[str, bytes]:
    """Return the content of each file of ONNX Runtime Web, by its name.

    Args:
        location: of the npm package, such as `node_modules/onnxruntime-web`, or of its `dist`.

    Raises:
        UserError: where a file is not there.
    """
    given = Path(location).expanduser()
    folder = given / "dist" if (given / "dist").is_dir() else given
    missing = [name for name in RUNTIME_FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"--onnxruntime-web {location!r} lacks {missing[0]}: name the folder of the npm "
            "package, which `npm install onnxruntime-web` makes (node_modules/onnxruntime-web)."
        )
    return {name: (folder / name).read_bytes() for name in RUNTIME_FILES}
