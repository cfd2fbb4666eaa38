"""The style of figures: a palette for colour-blind readers, and a title that states the finding."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:  # matplotlib takes a second to import: only when drawing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
PALETTE = [  # seaborn's "colorblind"
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
]
BLUE, ORANGE = PALETTE[0], PALETTE[1]
PALE_BLUE, DARK_ORANGE = "#8dbfdd", "#9a6200"
INK, GREY, PALE_GREY = "#262626", "#6b6b6b", "#c9c9c9"
MINUS = "\N{MINUS SIGN}"

_STYLE: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#bdbdbd",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e9e9e9",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "xtick.color": "#4d4d4d",
    "ytick.color": "#4d4d4d",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
}


@contextmanager
def styled() -> Iterator[None]:
    """Apply our style to figures that are drawn inside, and restore matplotlib's settings afterwards."""
    import matplotlib as mpl
    import seaborn as sns

    settings: dict[Any, Any] = {**sns.axes_style("whitegrid"), **_STYLE}
    with mpl.rc_context(settings):
        yield


def decimal(value: float, digits: int = 3) -> str:
    """Format with three decimals, without a zero before the point.

    >>> decimal(0.4551), decimal(-0.0312), decimal(1.25), decimal(0.0312, 4)
    ('.455', '\N{MINUS SIGN}.031', '1.250', '.0312')
    """
    text = f"{abs(value):.{digits}f}"
    shown = text[1:] if text.startswith("0.") else text
    return f"{MINUS}{shown}" if value < 0 and float(text) else shown


def signed(value: float) -> str:
    """Format with two decimals and a sign.

    >>> signed(0.031), signed(-0.001)
    ('+0.03', '0.00')
    """
    return f"{value:+.2f}".replace("-", MINUS) if round(value, 2) else "0.00"


def count_rows(count: int) -> str:
    """Format a number of rows.

    >>> count_rows(1043), count_rows(1)
    ('1,043 rows', '1 row')
    """
    return f"{count:,} row{'s' if count != 1 else ''}"


def percent(fraction: float, digits: int = 0) -> str:
    """Format a fraction in percent.

    >>> percent(0.9154, 1) == "91.5\N{NO-BREAK SPACE}%"
    True
    """
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def with_interval(title: str, value: float, interval: tuple[float, float], confidence: float) -> str:
    """Write a metric with its interval.

    >>> with_interval("MCC", 0.4551, (0.4021, 0.508), 0.95).replace(chr(160), " ")
    'MCC .455 (95 % .402 to .508)'
    """
    low, high = interval
    return f"{title} {decimal(value)} ({percent(confidence)} {decimal(low)} to {decimal(high)})"


def new_figure(title: str, caption: str, *, width: float = 7.2, height: float = 4.6) -> Figure:
    """Return an empty figure (inches) with the finding as title and a caption in small print."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    wrapped = textwrap.fill(title, int(width * 9.4), break_long_words=False)
    figure.suptitle(wrapped, x=0.012, ha="left", fontsize=12.5, fontweight="bold", color=INK)
    small = textwrap.fill(caption, int(width * 17), break_long_words=False)
    figure.supxlabel(small, x=0.012, ha="left", fontsize=8, color=GREY)
    return figure


def label_line_ends(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write each line's name beside its last point (x, y, colour), moved apart if they would touch."""
    low, high = axes.get_ylim()
    gap, floor = 0.07 * (high - low), -float("inf")
    for name, (x, y, colour) in sorted(ends.items(), key=lambda end: end[1][1]):
        floor = max(y, floor + gap)
        axes.annotate(name, (x, floor), (8, 0), textcoords="offset points", va="center", color=colour, fontsize=9)


def save_png(figure: Figure, target: str | Path | IO[bytes]) -> None:
    """Write a figure as a PNG of 200 dpi on white."""
    with styled():
        figure.savefig(target, format="png", dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.15)
