"""What the monitor hears, in its own words: inputs ordered by (event time, ce_id)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from services.monitor.domain.probe_events import ProbeEnded, Reread

CHAMPION: Final = "champion"
DIRECT: Final = "direct"

# Origins of labels that estimate risk without bias: drawn at random from everything, or from a drifted segment.
UNIFORM: Final = "uniform"
DRIFT: Final = "drift"
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Seen:
    """A prediction. `at` is the capture time in seconds since 1970; `features` are in the order of
    `channels.FEATURES` and, of a detector, `DETECTION`; NaN where absent. `failed`: there is an error, no answer.
    """

    at: float
    ce_id: str
    traceparent: str
    model: str
    version: str
    role: str
    camera_id: str
    asset_id: str
    class_name: str
    score: float
    features: tuple[float, ...]
    pair_id: str = ""
    rollout_id: str = ""
    latency_ms: float = 0.0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class PredictionOf:
    """The prediction a label is compared with. A detector's has a `loss`, 0..1 (`quality.boxes.loss`), NaN where the
    label draws no boxes; a classifier's is told by the classes.
    """

    model: str
    version: str
    role: str
    class_name: str
    score: float
    loss: float | None = None
    features: tuple[float, ...] = ()
    """In the order of `channels.FEATURES`, NaN where absent; empty when the label came without."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A confirmed label. `at` is when it was given, `captured_at` when the frame was; a higher revision replaces a
    lower one, and takes it back where `class_name` is empty.
    """

    at: float
    ce_id: str
    traceparent: str
    asset_id: str
    camera_id: str
    captured_at: float
    revision: int
    class_name: str
    origin: str
    propensity: float
    predictions: tuple[PredictionOf, ...]
    annotator: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """How often a run's new version and the champion are wrong, 0..1, on the same held-out assets of the new
    condition.
    """

    error: float
    champion_error: float
    assets: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A training run came to its end."""

    at: float
    ce_id: str
    traceparent: str
    model: str
    request_id: str
    succeeded: bool
    reason: str
    seconds: float = 0.0
    """How long the training itself took; 0 where it never began."""
    tried: Tried | None = None


@dataclass(frozen=True, slots=True)
class VersionKnown:
    """Registry judged a version; `error` is its error on `assets` held-out assets (`assets` 0: not measured)."""

    at: float
    ce_id: str
    traceparent: str
    model: str
    version: str
    request_id: str
    verdict: str
    error: float
    assets: int
    tried: Tried | None = None


@dataclass(frozen=True, slots=True)
class Deployed:
    """A serving replica changed what it holds."""

    at: float
    ce_id: str
    traceparent: str
    model: str
    version: str
    replica: str
    roles: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True)
class RolloutKnown:
    """Registry said which rollout of a model is under way; `id` empty: none. `stage` is shadow, canary, experiment or
    watch.
    """

    at: float
    ce_id: str
    traceparent: str
    model: str
    id: str
    champion: str
    challenger: str
    stage: str
    started_at: float
    stage_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A person approved or refused the retraining that an incident waits with."""

    at: float
    ce_id: str
    traceparent: str
    model: str
    incident_id: str
    approved: bool
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class CameraKnown:
    """Ingest said what a camera is. `labels` are its tags in order of their names, with `site` among them."""

    at: float
    ce_id: str
    traceparent: str
    camera_id: str
    labels: tuple[tuple[str, str], ...]


class Order(IntEnum):
    """What somebody wants of the monitor; the numbers are those of the contract."""

    ACKNOWLEDGE = 1
    MUTE = 2
    PLAN = 3
    CANCEL = 4
    ACCEPT_GAPS = 5


@dataclass(frozen=True, slots=True)
class Commanded:
    """Somebody acknowledges or mutes an incident (`subject`; `until` 0: until it is over), or announces a change
    (`subject` is the plan's id) of `cameras` (ids with * and ?) that have all of `labels`, from `since` to `until`, or
    cancels it; or lets a handler (`subject`) go on without records that are missing.
    """

    at: float
    ce_id: str
    traceparent: str
    id: str
    order: Order
    by: str
    why: str
    subject: str
    since: float = 0.0
    until: float = 0.0
    cameras: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


Input: TypeAlias = (
    Seen
    | Labelled
    | RunEnded
    | VersionKnown
    | Deployed
    | RolloutKnown
    | Answered
    | CameraKnown
    | Commanded
    | Reread
    | ProbeEnded
)
