"""Times of several methods as bars: laglite's in colour, the others' in grey."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def save_bars(results: Mapping[str, Mapping[str, float]], path: Path, label: str) -> None:
    """A chart for each title, of milliseconds by method, on one logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(5.5 * len(results), 3.4), sharey=True)
    for ax, (title, row) in zip(np.atleast_1d(axes), results.items(), strict=True):
        names = list(row)[::-1]
        colours = ["C0" if name.startswith("laglite") else "0.6" for name in names]
        bars = ax.barh(names, [row[name] for name in names], color=colours)
        ax.bar_label(bars, [f"{row[name]:,.0f} ms" for name in names], padding=3, fontsize=8)
        ax.set(xscale="log", title=title, xlabel=label)
        ax.margins(x=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
