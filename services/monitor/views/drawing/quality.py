"""Accuracy over time: from labels with their interval, and without labels where it can be said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.monitor.views.charts import Point, QualityChart
from services.monitor.views.drawing.style import COLOURS, GRID, INK, date, dates, figure_of, mark, nothing, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(chart: QualityChart) -> Figure:
    """Points stand in the middle of the time that they are of; the bar is the interval."""
    figure, (axes,) = figure_of(1, 4.2, f"{chart.model}: accuracy over time")
    axes.set_ylabel("accuracy (share of right answers)")
    versions = list(dict.fromkeys(p.version for p in [*chart.labelled, *chart.free]))
    for place, version in enumerate(versions):
        colour = COLOURS[place % len(COLOURS)]
        _free(
            axes, [p for p in chart.free if p.version == version], f"version {version}, without labels (90 %)", colour
        )
        _labelled(
            axes, [p for p in chart.labelled if p.version == version], f"version {version}, labels (95 %)", colour
        )
    _gaps(axes, chart)
    mark(axes, chart.marks, chart.span, words=True)
    if versions:
        low = min(p.low for p in [*chart.labelled, *chart.free])
        axes.set_ylim(max(0.0, low - 0.03), 1.0)
        time_axis(axes, chart.span)
        figure.legend(loc="outside lower left", ncols=2)
    else:
        nothing(axes, "\n".join(chart.unknown) or "nothing is known in this time")
    return figure


def _gaps(axes: Axes, chart: QualityChart) -> None:
    """Where no label tells anything."""
    known = sorted((p.begin, p.end) for p in chart.labelled)
    starts = [chart.span.since, *(end for _, end in known)]
    ends = [*(begin for begin, _ in known), chart.span.until]
    label = "no label drawn at random: unknown"
    for since, until in zip(starts, ends, strict=True):
        if known and until > since:
            axes.axvspan(
                date(since), date(until), facecolor="none", edgecolor=GRID, hatch="//", linewidth=0, label=label
            )
            label = ""


def _labelled(axes: Axes, points: list[Point], label: str, colour: str) -> None:
    if not points:
        return
    middle = dates([(p.begin + p.end) / 2 for p in points])
    below, above = [p.accuracy - p.low for p in points], [p.high - p.accuracy for p in points]
    errors = [[max(e, 0.0) for e in side] for side in (below, above)]
    axes.errorbar(
        middle, [p.accuracy for p in points], yerr=errors, fmt="o-", color=colour, ecolor=colour,
        markersize=5, capsize=3, elinewidth=1.2, label=label,
    )  # fmt: skip
    unsure = [(at, p.accuracy) for at, p in zip(middle, points, strict=True) if not p.sure]
    if unsure:
        axes.plot(
            [at for at, _ in unsure], [y for _, y in unsure], "o", markersize=9, markerfacecolor="none",
            color=INK, label="labels corrected: interval not anytime-valid",
        )  # fmt: skip


def _free(axes: Axes, points: list[Point], label: str, colour: str) -> None:
    for place, p in enumerate(points):
        ends = [date(p.begin), date(p.end)]
        axes.fill_between(ends, p.low, p.high, color=colour, alpha=0.12, linewidth=0)
        axes.hlines(
            p.accuracy,
            ends[0],
            ends[1],
            color=colour,
            linestyle="--",
            label=label if place == 0 else "",
        )
