"""What the monitor finds and says, in its own words; what it hears stands in `inputs`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from services.monitor.domain.probe_events import ProbeRequest, ProbeWord


class State(IntEnum):
    """How sure the monitor is; the numbers are those of the contract."""

    LEARNING = 1
    OK = 2
    WARN = 3
    ALARM = 4
    CONFIRMED = 5


class Cause(IntEnum):
    """What changed."""

    UNKNOWN = 0
    CAMERA = 1
    SCENE = 2
    LABELS = 3


class Harm(IntEnum):
    """Whether it costs accuracy."""

    NONE = 1
    UNKNOWN = 2
    CROSSED = 3


class Shape(IntEnum):
    """How it came."""

    UNKNOWN = 0
    SUDDEN = 1
    GRADUAL = 2
    INCREMENTAL = 3
    RECURRING = 4


class Outlook(IntEnum):
    """Whether training makes good what a change costs."""

    UNKNOWN = 0
    RECOVERABLE = 1
    NOT_RECOVERABLE = 2


@dataclass(frozen=True, slots=True)
class Evidence:
    """One channel's part in an alarm; means are in the channel's own unit."""

    channel: str
    camera_id: str
    detector: str
    statistic: float
    threshold: float
    reference_mean: float
    current_mean: float
    shift_sigma: float


@dataclass(frozen=True, slots=True)
class Risk:
    """Labelled error before and after; the interval is 95 %, two-sided."""

    baseline_error: float
    baseline_labels: int
    current_error: float
    current_low: float
    current_high: float
    current_labels: int


@dataclass(frozen=True, slots=True)
class Regain:
    """What share of the error that a change added a retraining regains, with its 90 % interval, all 0..1, from so many
    labels; `by` a run of it, or a probe, which regains no more than a run.
    """

    outlook: Outlook
    share: float
    low: float
    high: float
    labels: int
    by: str

    def expected(self) -> str:
        """What to expect of a retraining, in words."""
        least = "" if self.by == "run" else "at least "
        return f"training regains {least}{self.share:.0%} of the loss, by a {self.by} on {self.labels} labels"


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What a change brings back: an earlier incident of the same version (empty: none) and when that began; the version
    that was champion when the cameras last looked so (empty: none) and until when they did; seconds since 1970.
    """

    incident_id: str = ""
    incident_at: float = 0.0
    version: str = ""
    version_at: float = 0.0


@dataclass(frozen=True, slots=True)
class CameraFault:
    """What is broken in a camera, since when (seconds since 1970), and an asset of before and one of after; an asset is
    empty where none is remembered.
    """

    camera_id: str
    kind: str
    since: float
    before_asset_id: str
    after_asset_id: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What those that a change touches have in common, and nobody else has: `kind` is camera, cameras, model, class,
    hour, annotator, or the name of a camera's label (site, firmware, ...). Counted are cameras; for a change of labels
    they are labels, and the wrong ones among them.
    """

    kind: str
    value: str
    inside: int = 0
    inside_hit: int = 0
    outside: int = 0
    outside_hit: int = 0

    def __str__(self) -> str:
        """As people read it."""
        return f"{self.kind} {self.value}".rstrip()


NOWHERE: Final = Scope("", "")


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of an incident's history; `by` is `monitor`, or who gave the command."""

    at: float
    what: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Incident:
    """One drift of one model version, as far as it is understood; times are seconds since 1970, 0 where unknown."""

    id: str
    model: str
    version: str
    state: State
    cause: Cause
    harm: Harm
    shape: Shape
    began_at: float
    detected_at: float
    level_since: float
    cameras: tuple[str, ...]
    class_names: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    risk: Risk | None
    closed_at: float
    trigger_asset_id: str
    scope: Scope = NOWHERE
    acknowledged_at: float = 0.0
    acknowledged_by: str = ""
    muted_until: float = 0.0
    """Infinite: until it is over."""
    plan_id: str = ""
    history: tuple[Happening, ...] = ()
    faults: tuple[CameraFault, ...] = ()
    probe: ProbeWord | None = None
    regain: Regain | None = None
    recurs: Recurrence | None = None


@dataclass(frozen=True, slots=True)
class DriftFound:
    """An incident was opened, or something about it changed."""

    at: float
    traceparent: str
    incident: Incident
    revision: int


@dataclass(frozen=True, slots=True)
class Alert:
    """Something for people: `page` wakes, `ticket` waits."""

    at: float
    traceparent: str
    id: str
    model: str
    incident_id: str
    severity: str
    summary: str
    kind: str = ""
    """opened, escalated or closed."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """A camera's assessment changed: what the first stage, which sees one camera, tells the second, which sees the
    fleet. `steps` is how many frames one would wait for as much evidence were nothing wrong.
    """

    at: float
    traceparent: str
    model: str
    version: str
    camera_id: str
    state: State
    steps: float
    labels: tuple[tuple[str, str], ...]
    incident_id: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a decision about retraining was weighed with. Costs are in the policy's currency; `excess` is the labelled
    error above the baseline (-1..1), `cooldown_left` in seconds, `labels_since` how many labels have come since the
    last request, `trained_seconds` how long the last training took (0: not known); `regain` is that of `Regain`
    (no labels: not known).
    """

    excess: float
    predictions_a_second: float
    horizon_days: float
    cost_of_error: float
    cost_of_harm: float
    cost_of_run: float
    requests_today: int
    budget_a_day: int
    cooldown_left: float
    labels_since: int
    labels_between: int
    trained_seconds: float
    regain: float = 0.0
    regain_low: float = 0.0
    regain_high: float = 0.0
    regain_labels: int = 0
    regain_by: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A retraining is asked for."""

    at: float
    traceparent: str
    id: str
    model: str
    version: str
    incident_id: str
    labels_since: float
    labels_wanted: int
    expires_at: float
    reason: str
    class_names: tuple[str, ...]
    cameras: tuple[str, ...] = ()
    numbers: Numbers | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A retraining is not asked for, and why."""

    at: float
    traceparent: str
    id: str
    model: str
    incident_id: str
    reason: str
    numbers: Numbers | None = None


@dataclass(frozen=True, slots=True)
class TestResult:
    """One sequential test as it stands; it rejects at an e-value of 1 / alpha or above."""

    name: str
    e_value: float
    alpha: float
    limit: float
    mean: float
    outcomes: int
    rejected: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """Challenger against champion: better, equal, worse or undecided, with the numbers behind it."""

    at: float
    traceparent: str
    model: str
    champion: str
    challenger: str
    rollout_id: str
    verdict: str
    pairs: int
    labelled: int
    mean_difference: float
    coverage: float
    reason: str
    tests: tuple[TestResult, ...]
    stage_since: float = 0.0
    """Which stage is under way, told by its begin; 0 where that is not known."""
    stage_pairs: int = 0
    """How many of the pairs were made in it."""


Finding: TypeAlias = DriftFound | Alert | Assessed | Request | Refusal | Judged | ProbeRequest
