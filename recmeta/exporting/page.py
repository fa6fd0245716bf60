"""The files of a page that runs a graph in a browser: no server computes, and no answer is sent.

It is the endpoint's own page, with another `api.js` beneath it. ONNX Runtime Web is not part of
this package: its three files are copied from the npm package, or put there by hand.
"""

import importlib.resources
from pathlib import Path

from recmeta.errors import UserError

SHARED = ("try.js", "curve.js", "dom.js", "style.css", "icon.svg")
"""Files of the endpoint's page."""
OWN = ("index.html", "api.js")
RUNTIME_FOLDER = "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What the page loads of ONNX Runtime Web."""


def page_files() -> dict[str, bytes]:
    """Return the content of each file of the page, by its name."""
    package = importlib.resources.files("recmeta")
    shared, own = package / "endpoint" / "page", package / "exporting" / "page"
    found = {name: (shared / name).read_bytes() for name in SHARED}
    return found | {name: (own / name).read_bytes() for name in OWN}


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
