"""The aims of this measurement as data, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from tests.bench.serving.images import ROADS as IMAGE_ROADS
from tests.bench.serving.rounds import Case, Road
from tests.bench.serving.servers import (
    IRISLOOP,
    IRISLOOP_QUIET,
    LABELS,
    MLSERVER,
    NATIVE,
    NATIVE_QUIET,
    RAW,
    TRITON,
)
from tests.bench.serving.summary import Figures, Spread

Verdict = Literal["reached", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Aim:
    """`measure` gives the figure, None when the run lacks it; `bound` is the least, or the most when `most`."""

    text: str
    bound: float
    measure: Callable[[Figures], Spread | None]
    most: bool = False
    unit: str = "x"

    def judge(self, figures: Figures) -> Judgement:
        """By the median."""
        found = self.measure(figures)
        if found is None:
            return Judgement(self.text, self._bound(), "", "not measured")
        reached = found.median <= self.bound if self.most else found.median >= self.bound
        value = f"{found.median:.2f}{self.unit} ({found.low:.2f}-{found.high:.2f})"
        if self.unit == "us":
            value = f"{found.median:+.0f} us ({found.low:+.0f} to {found.high:+.0f})"
        return Judgement(self.text, self._bound(), value, "reached" if reached else "missed")

    def _bound(self) -> str:
        bound = f"+{self.bound:.0f} us" if self.unit == "us" else f"{self.bound:g}{self.unit}"
        return f"{'<=' if self.most else '>='} {bound}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """An aim and what became of it."""

    aim: str
    bound: str
    measured: str
    verdict: Verdict


def _rate(server: str, other: str, bound: float, clients: int, road: Road = "grpc", note: str = "") -> Aim:
    case = Case(road, "cnn", clients)
    text = note or f"{case}: rate of {LABELS[server]} over {LABELS[other]}"
    return Aim(text, bound, lambda figures: figures.ratio(server, other, case))


def _cpu(server: str, over_us: float, clients: int = 16) -> Aim:
    case, bare = Case("grpc", "cnn", clients), Case("grpc", "cnn", 1)

    def measure(figures: Figures) -> Spread | None:
        ours = figures.spread(server, case, lambda one: one.cpu_us)
        raw = figures.spread(RAW, bare, lambda one: one.cpu_us)
        if ours is None or raw is None:
            return None
        return Spread(ours.median - raw.median, ours.low - raw.median, ours.high - raw.median)

    return Aim(f"{case}: CPU a request of {LABELS[server]} above the bare runtime", over_us, measure, True, "us")


def _image(bound: float, model: str, road: str) -> Aim:
    text = f"{model}, {IMAGE_ROADS[road]}: time of a call of {LABELS[IRISLOOP]} over {LABELS[TRITON]}"
    return Aim(text, bound, lambda figures: figures.image_ratio(IRISLOOP, TRITON, model, road), most=True)


AIMS: Final = (
    *(_rate(NATIVE, TRITON, 1.2, clients) for clients in (1, 16, 64)),
    _rate(IRISLOOP, TRITON, 0.9, 1),
    _rate(IRISLOOP, TRITON, 0.6, 16),
    _rate(IRISLOOP, MLSERVER, 3.0, 16),
    _rate(NATIVE, MLSERVER, 5.0, 16),
    _cpu(NATIVE, 200.0),
    _cpu(IRISLOOP, 520.0),
    *(_rate(IRISLOOP, TRITON, 0.95, clients, "http") for clients in (1, 16)),
    *(_image(1.4, model, "grpc") for model in ("echo-image", "image-small")),
    *(_image(0.5, model, road) for model in ("echo-image", "image-small") for road in ("grpc-memory", "http-memory")),
    _rate(IRISLOOP, IRISLOOP_QUIET, 0.95, 16),
    _rate(NATIVE, NATIVE_QUIET, 0.95, 16),
)
"""For the cnn unless an aim names another model; everything on, events too."""
