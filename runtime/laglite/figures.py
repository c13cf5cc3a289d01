"""The look of all pictures, and their files. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from laglite.atomic_file import check_place, replacing
from laglite.errors import InputError, missing

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours: apart for colour-blind readers. INK is for what was observed.
INK, GREY, BLUE, VERMILION, GREEN = "#222222", "#7a7a7a", "#0072B2", "#D55E00", "#009E73"
WIDTH = 8.0  # inches; fonts are readable where a page shows the picture about 800 pixels wide
DOTS_PER_INCH = 150
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "pdf.fonttype": 42,  # text stays text
}


def check_picture(path: Path) -> None:
    """Refuse a picture that could not be written, before anything is computed.

    Raises InputError or MissingDependencyError.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: the ending must be .png, .svg or .pdf")
    check_place(path)
    require_matplotlib()


@contextmanager
def picture(path: Path, height: float) -> Iterator[Any]:
    """A figure to draw on, `height` inches high; afterwards the file appears, whole or not at all.

    Raises InputError if it cannot be written.
    """
    matplotlib = require_matplotlib()
    with matplotlib.rc_context(STYLE):
        # A bare Figure needs no display and is not kept by pyplot.
        figure = matplotlib.figure.Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DOTS_PER_INCH, format=path.suffix[1:].lower())


def short_name(name: str, longest: int) -> str:
    """A name of at most `longest` characters; what is left of a longer one ends in an ellipsis."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def require_matplotlib() -> Any:
    """Matplotlib with what the pictures use. Raises MissingDependencyError."""
    try:
        import matplotlib
        import matplotlib.dates
        import matplotlib.figure
        import matplotlib.ticker
    except ModuleNotFoundError as error:
        raise missing("matplotlib", "plot", "drawing a picture") from error
    return matplotlib
