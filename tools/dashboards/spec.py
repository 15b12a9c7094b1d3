"""A dashboard as what it asks and says, without Grafana's own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Sql:
    """A query of analytics; Grafana fills in `$__timeFilter(column)`, `$__timeInterval(column)` and variables."""

    text: str


@dataclass(frozen=True, slots=True)
class Prom:
    """A query of Prometheus."""

    text: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture; `width` in 24ths of the page, `unit` as Grafana names them."""

    title: str
    words: str
    queries: tuple[Sql | Prom, ...]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    top: float | None = None
    """The end of the axis, where it has one."""
    link: tuple[str, str, str] | None = None
    """Of a table's column: its name, what the link is called, and where it leads."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of the page, all of them at first."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text at the top of the page, to be written over: `name`, what stands there at first, what it is for."""

    name: str
    value: str
    words: str


@dataclass(frozen=True, slots=True)
class Board:
    """One page."""

    uid: str
    title: str
    words: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable | Text, ...] = ()
    since: str = "now-6h"
