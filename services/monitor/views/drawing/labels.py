"""What labels say of answers and of scores: the confusion matrix and the reliability diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor.domain.risk import wilson
from services.monitor.views.drawing.style import COLOURS, GRID, INK, WIDTH, figure_of, nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUMBERS: Final = 20
"""Classes up to which each cell bears its count."""
_NO_ANSWER: Final = "(no answer)"
_DARK: Final = 0.55


def confusion(quality: pb.Quality | None, title: str) -> Figure:
    """Rows are labels and sum to 1, columns are predictions; numbers are counts."""
    from matplotlib.figure import Figure

    if quality is None or not quality.classes:
        return _empty(title, quality)
    names = [one.class_name for one in quality.classes]
    columns = [*names, *([_NO_ANSWER] if any(not c.predicted for c in quality.confusion) else [])]
    counts = np.zeros((len(names), len(columns)), dtype=np.int64)
    for cell in quality.confusion:
        counts[names.index(cell.truth), columns.index(cell.predicted or _NO_ANSWER)] = cell.count
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    height = min(max(3.2, 1.8 + 0.36 * len(names)), 11.0)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.0, fontweight="bold")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="prediction", ylabel="label")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="share of the frames so labelled", shrink=0.9)
    if len(names) <= _NUMBERS:
        _write_counts(axes, counts, shares)
    return figure


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for row, column in zip(*counts.nonzero(), strict=True):
        colour = "#fefefe" if shares[row, column] > _DARK else "#111111"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=9, color=colour)


def calibration(quality: pb.Quality | None, title: str) -> Figure:
    """Accuracy against mean confidence by bin, with 95 % Wilson intervals, and how many predictions each bin has."""
    if quality is None or not quality.calibration:
        return _empty(title, quality)
    bins = quality.calibration
    figure, (axes, sizes) = figure_of(2, 5.2, title, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1, label="confidence = accuracy")
    bounds = [wilson(b.accuracy * b.predictions, b.predictions, 1.96) for b in bins]
    errors = [
        [max(b.accuracy - low, 0.0) for b, (low, _) in zip(bins, bounds, strict=True)],
        [max(high - b.accuracy, 0.0) for b, (_, high) in zip(bins, bounds, strict=True)],
    ]
    axes.errorbar(
        [b.confidence for b in bins], [b.accuracy for b in bins], yerr=errors, fmt="o-", color=COLOURS[0], capsize=3,
        elinewidth=1.2, markersize=5, label=f"labelled frames; calibration error {quality.calibration_error:.3f}",
    )  # fmt: skip
    axes.set(ylabel="accuracy (share right)", xlim=(0.0, 1.0), ylim=(0.0, 1.02))
    axes.legend(loc="upper left")
    sizes.bar(
        [b.low for b in bins], [b.predictions for b in bins], width=[b.high - b.low for b in bins], align="edge",
        color=COLOURS[0], edgecolor=GRID,
    )  # fmt: skip
    sizes.set(xlabel="confidence (top score, 0..1)", ylabel="frames")
    return figure


def _empty(title: str, quality: pb.Quality | None) -> Figure:
    figure, (axes,) = figure_of(1, 2.2, title)
    detector = quality is not None and quality.HasField("boxes")
    nothing(axes, "a detector's boxes have no place in it" if detector else "no label in this time")
    return figure
