"""What analytics remember, as people ask for it: rows by time, without a word of SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from services.monitor.domain.events import Incident
from services.monitor.domain.quality.tally import Tally
from services.monitor.errors import AnalyticsClosed


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of event time: seconds since 1970, [since, until)."""

    since: float
    until: float

    def __post_init__(self) -> None:
        """Raises `ValueError` for a stretch that is empty."""
        if not self.since < self.until:
            raise ValueError("`since` must lie before `until`")

    def bins(self, number: int) -> list[float]:
        """The ends of `number` equal parts, `number` + 1 times."""
        return [self.since + (self.until - self.since) * n / number for n in range(number + 1)]


@dataclass(frozen=True, slots=True)
class Line:
    """One channel of one camera: means over equal parts of a span, by number of the part; parts without a frame are
    absent.
    """

    camera_id: str
    channel: str
    means: Mapping[int, float]
    frames: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Scored:
    """Labelled predictions of one version in one part of a span; `drawn` are the uniform draws among them."""

    version: str
    part: int
    all: Tally
    drawn: Tally


@dataclass(frozen=True, slots=True)
class Release:
    """A version and the first frame that it answered as champion, ever."""

    version: str
    since: float


@dataclass(frozen=True, slots=True)
class Count:
    """One line of the pipeline's account."""

    what: str
    of: str
    number: int


@dataclass(frozen=True, slots=True)
class Example:
    """A frame near a value of a channel."""

    asset_id: str
    camera_id: str
    captured_at: float
    class_name: str
    score: float
    value: float


@dataclass(frozen=True, slots=True)
class Near:
    """Which frames are wanted: of these cameras and this span, nearest to `value` in `channel`."""

    cameras: Sequence[str]
    span: Span
    channel: str
    value: float


@dataclass(frozen=True, slots=True)
class Decided:
    """A line of the log of decisions: `decision` is requested or declined."""

    id: str
    model: str
    incident_id: str
    decision: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Told:
    """An alert: `severity` is page or ticket."""

    at: float
    severity: str
    summary: str
    incident_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which predictions are asked for; an empty text chooses all. `until` 0 is no end, times are microseconds."""

    model: str
    version: str
    role: str
    camera_id: str
    class_name: str
    scores: tuple[float, float]
    since: int
    until: int
    before: tuple[int, str]
    """(capture time, id) of the last one that was told; (0, "") begins with the newest."""
    most: int


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction as it is kept; times are microseconds since 1970."""

    id: str
    asset_id: str
    camera_id: str
    model: str
    version: str
    role: str
    captured_at: int
    predicted_at: int
    class_name: str
    score: float
    latency_ms: float
    error: str
    historical: int
    """1 when the frame was old when it arrived, else 0."""


class History(Protocol):
    """Everything raises `AnalyticsClosed` while analytics are not open, or not here."""

    async def cameras(self, model: str, span: Span) -> list[str]:
        """Cameras with a live prediction by the champion, the busiest first."""

    async def extent(self, model: str, cameras: Sequence[str], span: Span) -> Span | None:
        """From the first to the last live frame of the champion in whole seconds; None without one. Of all cameras when
        there are none."""

    async def lines(
        self, model: str, cameras: Sequence[str], channels: Sequence[str], span: Span, parts: int
    ) -> list[Line]:
        """Means of the champion's channels; a channel is a feature or `class.NAME`, the share of that class."""

    async def scored(self, model: str, cameras: Sequence[str], span: Span, parts: int) -> list[Scored]:
        """The champion's predictions with the newest revision of their label; of all cameras when there are none."""

    async def releases(self, model: str) -> list[Release]:
        """The model's champions, the first one first."""

    async def pipeline(self, model: str, cameras: Sequence[str], span: Span) -> list[Count]:
        """What was predicted, labelled and refused; of all cameras when there are none."""

    async def incidents(self, model: str, span: Span) -> list[Incident]:
        """Incidents that were open in the span, by their newest revision, without evidence; the newest first."""

    async def decisions(self, model: str, span: Span) -> list[Decided]:
        """What was asked for and declined in the span, the newest first."""

    async def alerts(self, model: str, span: Span) -> list[Told]:
        """What people were told in the span, the newest first."""

    async def predictions(self, wanted: Wanted) -> list[Predicted]:
        """The newest frames first, then by id."""

    async def near(self, model: str, version: str, wanted: Near, most: int) -> list[Example]:
        """Live frames that the champion answered, nearest first; for `class.NAME` and value 1 frames of that class,
        for `labelled_error` frames that people say it got wrong (value 1) or right (0).
        """


class _Closed:
    """Stands in where this instance does not have the role `analytics`."""

    def __getattr__(self, name: str) -> Any:
        async def closed(*args: object, **named: object) -> Any:
            raise AnalyticsClosed("this instance does not have the role `analytics`")

        return closed


CLOSED: Final = cast(History, _Closed())
"""Whatever is asked of it, it is closed."""
