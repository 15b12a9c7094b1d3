"""What all pictures share: colours, sizes, the time axis, and the way from a figure to bytes.

Colours are Okabe and Ito's (Color Universal Design, 2008): told apart with every common kind of colour blindness, and
legible on white and on black; lines differ in their dashes, too.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from services.monitor.domain.history import Span
from services.monitor.views.charts import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: Final[tuple[Any, ...]] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (7, 2)))
INK: Final = "#24292f"
GRID: Final = "#d0d7de"
PAPER: Final = "#ffffff"
WIDTH: Final = 9.0
"""Inches; at 100 dots an inch a picture is 900 wide."""
MARKS: Final[dict[str, tuple[Any, str]]] = {
    "began": (":", "#cc79a7"),
    "alarm": ("-", "#d55e00"),
    "over": ("--", "#009e73"),
    "release": ("-.", "#0072b2"),
    "requested": ((0, (4, 2)), "#e69f00"),
    "declined": ((0, (1, 3)), "#e69f00"),
}
_WORDS: Final = 14
_LETTER: Final = 0.0105
"""Width of a letter of a mark, as a share of the axes."""
_STYLE: Final[dict[Any, Any]] = {
    "font.size": 10.0,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "svg.fonttype": "none",
    "text.parse_math": False,  # Names are names, whatever signs they have.
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
}
_LOCK: Final = threading.Lock()
"""matplotlib's settings and its fonts belong to the process."""


def picture(draw: Callable[[], Figure], form: str, salt: str) -> bytes:
    """A figure as `svg` or `png`; the same figure and salt give the same bytes. May be called from any thread."""
    import matplotlib

    with _LOCK, matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure, out = draw(), io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(out, format=form, dpi=100, facecolor=PAPER, metadata=metadata)
        return out.getvalue()


def figure_of(rows: int, height: float, title: str, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of several axes under one another, `height` inches in all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, **options)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.0, fontweight="bold")
    return figure, [axis for (axis,) in axes]


def time_axis(axes: Axes, span: Span) -> None:
    """Hours and days in UTC."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.set_xlim(date(span.since), date(span.until))
    axes.set_xlabel("event time, UTC")


def date(at: float) -> float:
    """Seconds since 1970 as matplotlib's axis counts time: in days."""
    return at / 86_400.0


def dates(several: Sequence[float]) -> list[float]:
    """Several of them."""
    return [date(at) for at in several]


def mark(axes: Axes, marks: Sequence[Mark], span: Span, *, words: bool) -> None:
    """Vertical lines; `words` writes their names above the axes, in rows, while there are few enough to be read."""
    free: list[float] = []
    for one in marks:
        style, colour = MARKS[one.kind]
        axes.axvline(date(one.at), linestyle=style, color=colour, linewidth=1.2, zorder=1)
        if words and len(marks) <= _WORDS:
            place = (one.at - span.since) / (span.until - span.since)
            width = _LETTER * (len(one.text) + 1)
            row = next((n for n, end in enumerate(free) if end <= place), len(free))
            free[row : row + 1] = [place + width]
            axes.annotate(
                one.text, (date(one.at), 1.0), xycoords=axes.get_xaxis_transform(),
                xytext=(0, 3 + 11 * row), textcoords="offset points", fontsize=8.5, color=INK,
                ha="right" if place + width > 1.0 else "left", annotation_clip=False,
            )  # fmt: skip


def nothing(axes: Axes, text: str) -> None:
    """Says why axes are empty, in their middle."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK, wrap=True)
