"""Times of several methods as bars: laglite's in colour, the others' in grey."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def save_bars(results: Mapping[str, Mapping[str, float]], path: Path, label: str) -> None:
    """A chart for each title, of milliseconds by method, on one logarithmic axis.

    A method that a title lacks has no bar there.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(name for row in results.values() for name in row))[::-1]
    height = max(3.4, 0.3 * len(names) + 1)
    figure, axes = plt.subplots(1, len(results), figsize=(5.5 * len(results), height), sharey=True)
    for ax, (title, row) in zip(np.atleast_1d(axes), results.items(), strict=True):
        colours = ["C0" if name.startswith("laglite") else "0.6" for name in names]
        bars = ax.barh(names, [row.get(name, np.nan) for name in names], color=colours)
        labels = [f"{row[name]:,.0f} ms" if name in row else "" for name in names]
        ax.bar_label(bars, labels, padding=3, fontsize=8)
        ax.set(xscale="log", title=title, xlabel=label)
        ax.margins(x=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
