"""Forecasts drawn in the terminal: history, median and 80 % interval on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from laglite.forecast import Forecast
from laglite.frequency import format_timestamps
from laglite.plotting import readable_limits, recent

MOST_PREVIEWS = 4
ROWS = 8
COVERAGE = 0.8
SMALLEST_CHART = 20  # columns
STYLES = {"history": "default", "median": "bold blue", "interval": "cyan"}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Ink:
    """What a chart is drawn with: dots in a character cell, and the signs of an axis."""

    across: int
    down: int
    side: str
    corner: str
    floor: str
    tick: str


BRAILLE = Ink(2, 4, "┤", "└", "─", "┴")
ASCII = Ink(1, 1, "|", "+", "-", "+")
ASCII_SIGNS = {"history": "*", "median": "o", "interval": "."}
# The bit of each dot of a braille character, [down, across].
BRAILLE_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
BRAILLE_START = 0x2800


def print_previews(
    forecasts: Sequence[Forecast], histories: Iterable[NDArray[np.float64]], console: Console
) -> None:
    """Draw each forecast on `console`, as wide as it is, with what its encoding can show."""
    ink = BRAILLE if _shows(console.encoding) else ASCII
    for forecast, history in zip(forecasts, histories, strict=True):
        console.print(chart(forecast, history, console.width, ink), overflow="crop", no_wrap=True)
    median, dotted = ("ooo", "...") if ink is ASCII else ("line", "dots")
    console.print(f"median ({median}) and {100 * COVERAGE:.0f} % interval ({dotted})", markup=False,
                  highlight=False)  # fmt: skip


def chart(forecast: Forecast, history: NDArray[np.float64], width: int, ink: Ink) -> Text:
    """One forecast after the end of its history, as lines of at most `width` characters."""
    shown = recent(history, forecast.prediction_length)
    origin, total = len(shown), len(shown) + forecast.prediction_length
    limits = readable_limits(forecast, shown, COVERAGE)
    labels = {ROWS - 1: f"{limits[0]:.6g}", 0: f"{limits[1]:.6g}"}
    margin = max(map(len, labels.values()))
    columns = max(width - margin - 1, SMALLEST_CHART)
    size = (ROWS * ink.down, columns * ink.across)
    low, high = (rasterise(end, origin, total, limits, size) for end in forecast.interval(COVERAGE))
    interval = low | high
    start = int(_column(np.array([origin]), total, size[1])[0])
    interval[:, (start + 1) % 2 :: 2] = False  # dotted, from the first step on
    layers = {
        "interval": interval,
        "history": rasterise(shown, 0, total, limits, size),
        "median": rasterise(forecast.median, origin, total, limits, size),
    }
    text = Text()
    if forecast.item_id is not None:
        text.append(f"{_plain(forecast.item_id, ink)[:width]}\n", style="bold")
    for row, cells in enumerate(_cells(layers, ink)):
        text.append(f"{labels.get(row, ''):>{margin}}{ink.side}").append_text(cells).append("\n")
    place = start // ink.across
    floor = ink.floor * place + ink.tick + ink.floor * (columns - place - 1)
    text.append(f"{'':{margin}}{ink.corner}{floor}\n")
    text.append(f"{'':{margin + 1}}{_caption(forecast, origin, columns, place)}")
    return text


def rasterise(
    values: NDArray[np.floating],
    first: int,
    total: int,
    limits: tuple[float, float],
    size: tuple[int, int],
) -> Mask:
    """Dots [rows, columns] of a line through the steps `first ..` of `total`, NaN a gap.

    `limits` are the values of the last row and of the first; nothing is drawn beyond them.
    """
    rows, columns = size
    bottom, top = limits
    span = top - bottom
    above = values.astype(np.float64) - bottom
    heights = above / span if span > 0 else above + 0.5
    last = len(values) - 1
    between = np.linspace(0, last, 16 * columns)  # several to a dot, so that steep lines are whole
    at = np.concatenate([np.arange(last + 1.0), between])
    low, high = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
    height = heights[low] + (at - low) * (heights[high] - heights[low])
    drawn = (height >= 0) & (height <= 1)  # not NaN either
    row = np.rint((1 - height[drawn]) * (rows - 1)).astype(np.int64)
    column = _column(first + at[drawn], total, columns)
    highest, lowest = np.full(columns, rows), np.full(columns, -1)
    np.minimum.at(highest, column, row)
    np.maximum.at(lowest, column, row)
    every = np.arange(rows)[:, None]
    mask: Mask = (every >= highest) & (every <= lowest)
    return mask


def _column(step: NDArray[np.floating], total: int, columns: int) -> NDArray[np.int64]:
    """Where a step lies among the columns of dots."""
    column: NDArray[np.int64] = np.rint(step * ((columns - 1) / max(total - 1, 1))).astype(np.int64)
    return column


def _cells(layers: Mapping[str, Mask], ink: Ink) -> Iterator[Text]:
    """Lines of characters; later layers colour and, in ASCII, hide earlier ones."""
    for row in range(ROWS):
        text = Text()
        part = {name: mask[row * ink.down : (row + 1) * ink.down] for name, mask in layers.items()}
        for left in range(0, next(iter(part.values())).shape[1], ink.across):
            dots = {name: mask[:, left : left + ink.across] for name, mask in part.items()}
            there = [name for name, mask in dots.items() if mask.any()]
            if not there:
                text.append(" ")
            elif ink is ASCII:
                text.append(ASCII_SIGNS[there[-1]], style=STYLES[there[-1]])
            else:
                joined = np.logical_or.reduce(list(dots.values()))
                sign = chr(BRAILLE_START + int(BRAILLE_BITS[joined].sum()))
                text.append(sign, style=STYLES[there[-1]])
        yield text


def _caption(forecast: Forecast, past: int, columns: int, place: int) -> str:
    """The first time shown, that of the first step ahead under its column, and the last."""
    ends = (-past, 0, forecast.prediction_length - 1)
    stamps = forecast.times(-past, past + forecast.prediction_length)
    if stamps is None:
        names = [str(end + 1) for end in ends]
    else:
        names = format_timestamps(stamps[[end + past for end in ends]])
    first, origin, last = names
    start = place - len(origin) + 1  # ends under the tick: the last time needs the other side
    line = f"{first:<{columns - len(last)}}{last}"
    if len(first) < start and start + len(origin) < columns - len(last):
        line = line[:start] + origin + line[start + len(origin) :]
    return line[:columns]


def _plain(name: str, ink: Ink) -> str:
    """A name as the terminal can show it."""
    return name.encode("ascii", "backslashreplace").decode() if ink is ASCII else name


def _shows(encoding: str) -> bool:
    """Whether a terminal's encoding has braille and lines."""
    signs = f"{BRAILLE.side}{BRAILLE.corner}{BRAILLE.floor}{BRAILLE.tick}{chr(BRAILLE_START)}"
    try:
        signs.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
