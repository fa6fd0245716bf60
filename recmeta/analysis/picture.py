"""How the notebooks' own plots look."""

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
