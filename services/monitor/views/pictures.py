"""A kind of picture by its name: gathers what it is of, and draws it in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from services.common.errors import InvalidMessage
from services.monitor.domain.history import History
from services.monitor.handlers import Judge
from services.monitor.views import charts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS: Final = ("channels", "quality", "confusion", "calibration")
Drawing: TypeAlias = "Callable[[], Figure]"
FORMS: Final = {"svg": "image/svg+xml", "png": "image/png"}


async def plot(judge: Judge, history: History, kind: str, form: str, asked: charts.Asked) -> bytes:
    """A picture as a file's bytes. Raises `InvalidMessage`, `UnknownModel`, `AnalyticsClosed`."""
    if kind not in KINDS or form not in FORMS:
        raise InvalidMessage(f"a plot is {', '.join(KINDS)}, as {' or '.join(FORMS)}.", field="kind")
    draw = await drawn(judge, history, kind, asked)
    return await asyncio.to_thread(rendered, draw, form, f"{kind} {asked.model}")


async def drawn(judge: Judge, history: History, kind: str, asked: charts.Asked) -> Drawing:
    """The facts of a kind, ready to be drawn."""
    if kind in ("confusion", "calibration"):
        return await of_labels(judge, kind, asked)
    story = await charts.chronicle(judge, history, asked)
    if kind == "channels":
        return figure_of(await charts.channels(judge, history, asked, story))
    return figure_of(await charts.quality_over_time(judge, history, asked, story))


def figure_of(chart: charts.ChannelChart | charts.QualityChart) -> Drawing:
    """How to draw a chart; matplotlib is first needed when that is called."""

    def draw() -> Figure:
        from services.monitor.views.drawing import channels, quality

        return channels.draw(chart) if isinstance(chart, charts.ChannelChart) else quality.draw(chart)

    return draw


async def of_labels(judge: Judge, kind: str, asked: charts.Asked) -> Drawing:
    """How to draw what labels say. Raises `UnknownModel`."""
    found = await charts.of_labels(judge, asked)
    version = f" version {found.version}" if found is not None else ""
    title = f"{asked.model}{version}: {kind}" + (f", {asked.camera}" if asked.camera else "")

    def draw() -> Figure:
        from services.monitor.views.drawing import labels

        return labels.confusion(found, title) if kind == "confusion" else labels.calibration(found, title)

    return draw


def form_of(file: Path) -> str:
    """`svg` or `png`, by the file's name. Raises `InvalidMessage` for another one."""
    form = file.suffix.lstrip(".").lower()
    if form not in FORMS:
        raise InvalidMessage(
            f"a picture is a file that ends in .{' or .'.join(FORMS)}, not {file.name!r}.", field="plot"
        )
    return form


def backtest(figures: dict[str, Any], file: Path) -> None:
    """Write what a backtest found (`backtest.figures`) as a picture. Raises `InvalidMessage` as `form_of`."""

    def draw() -> Figure:
        from services.monitor.views.drawing import backtest

        return backtest.draw(figures)

    file.write_bytes(rendered(draw, form_of(file), "backtest"))


def rendered(draw: Drawing, form: str, salt: str) -> bytes:
    """The bytes of a figure."""
    from services.monitor.views.drawing.style import picture

    return picture(draw, form, salt)
