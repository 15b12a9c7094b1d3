"""A backtest as a picture: when was alarmed and asked, really and by the other policy, and what it was worth."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

SIDES: Final = (("recorded", "really", "#444444"), ("replayed", "by this policy", "#0b6e4f"))


def draw(figures: dict[str, Any], file: Path) -> Path:
    """Write an SVG or PNG by the file's name; `figures` are those of `backtest.figures`. The same figures give the same
    bytes.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "irisloop"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(11, 5), sharex=True, layout="constrained")
    for row, (side, words, colour) in enumerate(SIDES):
        course = figures[side]
        _events(axes[0], course, len(SIDES) - row, colour)
        _saved(axes[1], course, figures["to"], words, colour)
    axes[0].set_yticks([2, 1], [words for _, words, _ in SIDES])
    axes[0].set_ylim(0.4, 2.6)
    axes[0].set_title("incidents (bars), alarms (o), retraining asked for (triangles)", fontsize=9, loc="left")
    axes[1].set_title("saved so far: harm avoided less the cost of runs, estimated", fontsize=9, loc="left")
    axes[1].legend(loc="upper left", frameon=False)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    figure.autofmt_xdate()
    kind = file.suffix.lstrip(".").lower() or "svg"
    figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    pyplot.close(figure)
    return file


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _events(axes: Any, course: dict[str, Any], height: float, colour: str) -> None:
    for one in course["alarmed"]:
        until = one["closed_at"] or one["at"]
        axes.plot([_time(one["at"]), _time(until)], [height, height], color=colour, linewidth=5, alpha=0.3)
        axes.plot([_time(one["at"])], [height], "o", color=colour)
    for one in course["asked"]:
        axes.plot([_time(one["at"])], [height + 0.25], "v", color=colour)


def _saved(axes: Any, course: dict[str, Any], end: float, words: str, colour: str) -> None:
    total, points = 0.0, []
    for one in course["asked"]:
        points.append((_time(one["at"]), total))
        total += one["saved"] or 0.0
        points.append((_time(one["at"]), total))
    points.append((_time(end), total))
    axes.plot([at for at, _ in points], [value for _, value in points], color=colour, label=words)
