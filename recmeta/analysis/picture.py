"""A picture that a notebook shows and a script can save."""

import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG."""

    png: bytes

    def _repr_png_(self) -> bytes:
        """Return what Jupyter shows."""
        return self.png

    def __repr__(self) -> str:
        return f"Picture({len(self.png) // 1024} KiB, PNG)"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into a file."""
        Path(path).write_bytes(self.png)


STYLE: dict[str, object] = {
    "figure.figsize": (7.5, 3.8),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
"""How the notebooks' own plots look: `matplotlib.pyplot.style.use(STYLE)`."""
