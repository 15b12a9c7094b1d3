"""The things registry keeps, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
PREVIOUS = "previous"
ALIASES = (CHAMPION, CHALLENGER, SHADOW, PREVIOUS)
"""Those that registry moves itself; people may add others."""


class Stage(StrEnum):
    """Where a rollout stands; contracts say what each means."""

    SHADOW = "shadow"
    CANARY = "canary"
    EXPERIMENT = "experiment"
    WATCH = "watch"


class VersionState(StrEnum):
    """Where a version stands before any alias is moved to it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    AWAITING_APPROVAL = "awaiting_approval"


@dataclass(frozen=True, slots=True)
class Package:
    """A signed model folder in the object store; `digest` names its content, `signature` is Ed25519, base64."""

    digest: str
    size_bytes: int
    signature: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Score:
    """Correct answers of one model under one condition; `accuracy` in 0..1."""

    condition: str
    assets: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What gates look at: challenger and champion on the same held-out assets.

    `champion` is empty when there was none. `parity` is the largest absolute difference of ONNX and torch outputs,
    `latency_ms` the median of one image. `report` is trainer's whole report, as it came (protobuf bytes).
    """

    challenger: Mapping[str, Score]
    champion: Mapping[str, Score]
    champion_version: str
    parity: float
    latency_ms: float
    champion_latency_ms: float
    report: bytes


NOT_MEASURED = Evidence({}, {}, "", 0.0, 0.0, 0.0, b"")
"""A run without a report: no gate that looks at held-out assets lets it pass."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's answer, with the number and the limit it was held against."""

    gate: str
    passed: bool
    measured: float
    limit: float
    detail: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package that asks to become a version; `evidence` is None for one registered by hand."""

    model: str
    package: Package
    run_id: str
    request_id: str
    dataset: str
    dataset_version: int
    class_names: tuple[str, ...]
    registered_by: str
    evidence: Evidence | None


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version; `number` counts from 1 within its model."""

    number: int
    candidate: Candidate
    state: VersionState
    gates: tuple[GateResult, ...]
    registered_at: datetime

    @property
    def name(self) -> str:
        """The number as text, as clients write it."""
        return str(self.number)


@dataclass(frozen=True, slots=True)
class Move:
    """One alias changed hands; an empty version means the alias was or became unset."""

    id: str
    model: str
    alias: str
    from_version: str
    to_version: str
    moved_by: str
    reason: str
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class Arm:
    """A share (above 0, at most 1) of the keys, and the version that answers for them."""

    name: str
    version: str
    share: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """A version on its way to be champion, or an experiment, whose challenger is empty.

    `champion` is what the challenger is compared with, and what answers when it is withdrawn: in the stage `watch` the
    version before. `pairs` were compared since the beginning, `pairs_before` of them before this stage.
    """

    id: str
    model: str
    champion: str
    challenger: str
    stage: Stage
    arms: tuple[Arm, ...]
    started_at: datetime
    stage_since: datetime
    started_by: str
    reason: str
    automatic: bool
    pairs_before: int = 0
    pairs: int = 0

    @property
    def salt(self) -> str:
        """Hashed with a key to find its arm: the same in all stages, so that no key changes sides on the way up."""
        return self.id

    @property
    def share(self) -> float:
        """Of the keys that the challenger, or all arms together, answer for: 0..1."""
        return sum(arm.share for arm in self.arms)

    @property
    def versions(self) -> tuple[str, ...]:
        """All that it names, each once."""
        named = (self.champion, self.challenger, *(arm.version for arm in self.arms))
        return tuple(dict.fromkeys(version for version in named if version))


@dataclass(frozen=True, slots=True)
class Model:
    """A model and where its aliases point; `revision` grows with each published alias map."""

    name: str
    dataset: str
    created_at: datetime
    revision: int
    aliases: Mapping[str, str]
    rollout: Rollout | None = None
