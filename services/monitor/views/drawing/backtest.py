"""A backtest: when was alarmed and asked, really and by the other policy, and what it was worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.monitor.domain.history import Span
from services.monitor.views.drawing.style import COLOURS, date, dates, figure_of, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDES: Final = (("recorded", "really", COLOURS[1]), ("replayed", "by this policy", COLOURS[0]))
_LEAST: Final = 1.0
"""Seconds: an axis has a length, also where a recording has none."""


def draw(figures: dict[str, Any]) -> Figure:
    """`figures` are those of `backtest.figures`."""
    span = Span(figures["from"], max(figures["to"], figures["from"] + _LEAST))
    figure, axes = figure_of(2, 5.4, "What another policy would have said", sharex=True)
    for row, (side, words, colour) in enumerate(SIDES):
        _events(axes[0], figures[side], len(SIDES) - row, colour, span.until)
        _saved(axes[1], figures[side], span, words, colour)
    axes[0].set_yticks([len(SIDES) - row for row in range(len(SIDES))], [words for _, words, _ in SIDES])
    axes[0].set_ylim(0.4, 2.6)
    axes[0].grid(axis="y", visible=False)
    axes[0].set_title("Incidents (bars from alarm to end) and retraining asked for (triangles)")
    axes[1].set_title("Saved so far, estimated: harm avoided less the cost of runs")
    axes[1].set_ylabel("cost (the policy's currency)")
    axes[1].legend(loc="upper left")
    time_axis(axes[-1], span)
    return figure


def _events(axes: Axes, course: dict[str, Any], height: float, colour: str, end: float) -> None:
    for one in course["alarmed"]:
        until = one["closed_at"] or end
        axes.plot(dates([one["at"], until]), [height, height], color=colour, linewidth=5, alpha=0.3)
        axes.plot([date(one["at"])], [height], "o", color=colour)
    for one in course["asked"]:
        axes.plot([date(one["at"])], [height + 0.25], "v", color=colour)


def _saved(axes: Axes, course: dict[str, Any], span: Span, words: str, colour: str) -> None:
    """A step at each request."""
    times, values, total = [span.since], [0.0], 0.0
    for one in course["asked"]:
        total += one["saved"] or 0.0
        times.append(one["at"])
        values.append(total)
    axes.step(dates([*times, span.until]), [*values, total], where="post", color=colour, label=words)
