"""Channels over time: one axes a channel, one line a camera, what is normal as a band."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from services.monitor.views.charts import Band, ChannelChart
from services.monitor.views.drawing.style import COLOURS, DASHES, INK, date, figure_of, mark, nothing, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NORMAL: Final = "as in the reference"
_LINE: Final = 120
"""Letters in a line of the legend."""
UNITS: Final = {
    "pixels.sharpness": "variance of Laplacian",
    "entropy": "nats",
    "energy": "nats",
    "embedding_norm": "length",
    "projections": "length",
    "class": "share",
    "pixels": "0..1",
}


def draw(chart: ChannelChart) -> Figure:
    """Means of equal parts of time; the band is where they lie while nothing has changed."""
    count = max(len(chart.channels), 1)
    figure, axes = figure_of(count, 1.1 + 1.9 * count, f"{chart.model}: channels", sharex=True)
    for row, name in enumerate(chart.channels):
        _channel(axes[row], chart, name)
        mark(axes[row], chart.marks, chart.span, words=row == 0)
    time_axis(axes[-1], chart.span)
    handles = {label: handle for a in axes for handle, label in zip(*a.get_legend_handles_labels(), strict=True)}
    if handles:
        order = sorted(handles, key=[*map(_named, chart.cameras), _NORMAL].index)
        title = f"{chart.left_out} more cameras are not shown" if chart.left_out else None
        figure.legend(
            [handles[label] for label in order],
            order,
            loc="outside lower left",
            ncols=max(1, _LINE // (max(map(len, order)) + 8)),
            title=title,
        )
    return figure


def _channel(axes: Axes, chart: ChannelChart, name: str) -> None:
    edges = chart.span.bins(chart.parts)
    middle = [(a + b) / 2 for a, b in pairwise(edges)]
    axes.set_ylabel(f"{name}\n({_unit(name)})", fontsize=9.0)
    _bands(axes, chart, name)
    lines = {line.camera_id: line for line in chart.lines if line.channel == name}
    for place, camera in enumerate(chart.cameras):
        if camera in lines:
            parts = sorted(lines[camera].means)
            axes.plot(
                [date(middle[part]) for part in parts], [lines[camera].means[part] for part in parts],
                color=COLOURS[place % len(COLOURS)], linestyle=DASHES[place % len(DASHES)], label=_named(camera),
                marker="o" if len(parts) < 3 else "", markersize=4,
            )  # fmt: skip
    if not lines:
        nothing(axes, "no value of this channel in this time")


def _bands(axes: Axes, chart: ChannelChart, name: str) -> None:
    """All in one shape, so that those that overlap are one: many over one another would show nothing."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    outlines = [_outline(band) for band in chart.bands if band.channel == name]
    if outlines:
        shape = Path.make_compound_path(*(Path(outline, closed=True) for outline in outlines))
        axes.add_patch(PathPatch(shape, facecolor=INK, alpha=0.13, linewidth=0, label=_NORMAL))
        axes.autoscale_view()


def _outline(band: Band) -> list[tuple[float, float]]:
    """Along its lower edge and back along the upper one, to where it began: all turn the same way."""
    sides = list(zip(band.times, band.means, band.halves, strict=True))
    lower = [(date(at), mean - half) for at, mean, half in sides]
    upper = [(date(at), mean + half) for at, mean, half in reversed(sides)]
    return [*lower, *upper, lower[0]]


def _named(camera: str) -> str:
    """A legend leaves out what begins with an underscore."""
    return f"\u200b{camera}" if camera.startswith("_") else camera


def _unit(name: str) -> str:
    return UNITS.get(name) or UNITS.get(name.partition(".")[0], "0..1")
