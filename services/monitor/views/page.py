"""The report as one HTML file: nothing is fetched, no script is needed, light or dark by the reader's choice."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from services.monitor.domain.history import Count
from services.monitor.views import words
from services.monitor.views.drawing import style
from services.monitor.views.pictures import rendered
from services.monitor.views.report import Report

if TYPE_CHECKING:
    from jinja2 import Template

_THEMED: Final = {style.INK: "var(--ink)", style.GRID: "var(--line)", style.PAPER: "var(--paper)"}


def page(report: Report, made_at: float, assets: str = "") -> str:
    """The document; `assets` is where ingest answers, for links to frames (http://localhost:8110), none when empty.

    Draws its pictures: seconds of work, for a thread.
    """
    drawings = [
        (title, text, _inline(rendered(draw, "svg", title).decode(), title)) for title, text, draw in report.pictures
    ]
    return _template().render(
        r=report,
        drawings=drawings,
        made_at=made_at,
        assets=assets.rstrip("/"),
        pipeline=_grouped(report.pipeline),
        events=_events(report),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Any] = {
        "moment": words.moment,
        "length": words.length,
        "number": words.number,
        "percent": words.percent,
        "word": words.name_of,
        "stamp": lambda stamp: words.moment(stamp.seconds + stamp.nanos / 1e9),
    }
    environment.filters |= filters
    environment.globals |= {"headline": words.headline, "causes": words.CAUSES, "harms": words.HARMS}
    return environment.from_string(files("services.monitor.views").joinpath("report.html.j2").read_text("utf-8"))


def _inline(svg: str, title: str) -> Any:
    """An SVG as part of the page: without its prolog and size, named for those who cannot see it, in the page's
    colours.
    """
    from markupsafe import Markup, escape

    svg = svg[svg.index("<svg") :]
    for colour, variable in _THEMED.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'(?<=<svg)[^>]*?(viewBox="[^"]*")[^>]*?(?=>)', rf' role="img" aria-label="{escape(title)}" \1', svg, count=1
    )
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    return Markup(re.sub(r' id="([^"]*)"', lambda one: one[0] if one[1] in used else "", svg))


def _grouped(counts: Any) -> dict[str, list[Count]]:
    found: dict[str, list[Count]] = {}
    for one in counts:
        found.setdefault(one.what, []).append(one)
    return found


def _events(report: Report) -> list[tuple[float, str, str]]:
    """Alerts, releases and decisions of the time as (when, what, why), the newest first."""
    span = report.asked.span
    decided = [(d.at, f"retraining {d.decision}", d.reason) for d in report.decisions]
    released = [(r.since, f"version {r.version} answers as champion", "") for r in report.releases]
    told = [(one.at, f"alert ({one.severity})", one.summary) for one in report.alerts]
    return sorted([*told, *decided, *(one for one in released if span.since <= one[0] < span.until)], reverse=True)
