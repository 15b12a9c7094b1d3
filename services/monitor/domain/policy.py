"""The policy file as typed values; what each field means stands beside it in `policy.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """How records of many partitions are put in order."""

    lateness_seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """How a camera's normal is learnt."""

    frames: int
    effective: int
    frames_max: int
    pooled: int


@dataclass(frozen=True, slots=True)
class ChannelPolicy:
    """How input channels are watched."""

    block: int
    block_max: int
    allowance: float
    clip: float
    class_share_min: float
    run_length_warn: float
    run_length_alarm: float


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """How the labelled error is watched."""

    run_length: float
    baseline: int
    report_weight: int
    adwin_delta: float
    remembered: int


@dataclass(frozen=True, slots=True)
class HarmPolicy:
    """When a drift hurts and when it does not."""

    crossed_above: float
    none_below: float
    deviations: float
    none_deviations: float
    labels_min: int
    focus_min: int
    clear_frames: int


@dataclass(frozen=True, slots=True)
class ShapePolicy:
    """When the channels count as level again."""

    level_frames: int
    level_tolerance: float
    level_wait_seconds: float


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    """When a retraining is asked for."""

    labels_wanted: int
    expires_seconds: float
    cooldown_seconds: float
    budget_a_day: int
    cost_of_error: float
    cost_of_run: float
    horizon_days: float


@dataclass(frozen=True, slots=True)
class ChallengePolicy:
    """How a challenger is judged against the champion."""

    alpha: float
    margin: float
    slot_seconds: float
    propensity: float
    disagreement_share: float
    disagreement_labels: int
    latency_factor: float
    latency_share: float
    remembered: int
    say_every: int


@dataclass(frozen=True, slots=True)
class QualityPolicy:
    """Which labels metrics are kept of, and how the risk is bounded."""

    horizon_hours: float = 336.0
    remembered: int = 50_000
    weight_max: float = 500.0
    propensity: float = 0.08
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class FleetPolicy:
    """How alarms of many cameras become incidents."""

    run_length: float = 100_000.0
    join_seconds: float = 21_600.0
    alike: float = 0.5
    settle_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it; `quality` and `fleet` came later, so a file may do without."""

    merge: MergePolicy
    reference: ReferencePolicy
    channels: ChannelPolicy
    labels: LabelPolicy
    harm: HarmPolicy
    shape: ShapePolicy
    retrain: RetrainPolicy
    challenge: ChallengePolicy
    quality: QualityPolicy = QualityPolicy()
    fleet: FleetPolicy = FleetPolicy()

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Policy:
        """From the parsed file; a field that is missing or unknown is a ValueError that names it."""
        known = {f.name for f in fields(cls)}
        if extra := (set(document) | {"quality", "fleet"}) ^ known:
            raise ValueError(f"policy: sections missing or unknown: {', '.join(sorted(extra))}")
        return cls(
            merge=_section(MergePolicy, document, "merge"),
            reference=_section(ReferencePolicy, document, "reference"),
            channels=_section(ChannelPolicy, document, "channels"),
            labels=_section(LabelPolicy, document, "labels"),
            harm=_section(HarmPolicy, document, "harm"),
            shape=_section(ShapePolicy, document, "shape"),
            retrain=_section(RetrainPolicy, document, "retrain"),
            challenge=_section(ChallengePolicy, document, "challenge"),
            quality=_quality(document),
            fleet=_fleet(document),
        )


def _quality(document: Mapping[str, Any]) -> QualityPolicy:
    if "quality" not in document:
        return QualityPolicy()
    quality = _section(QualityPolicy, document, "quality")
    if not 0.0 < quality.alpha < 1.0:
        raise ValueError(f"policy: quality.alpha must lie between 0 and 1, not {quality.alpha!r}")
    if not (0.0 < quality.propensity <= 1.0 <= quality.weight_max and quality.remembered):
        raise ValueError("policy: quality: propensity is above 0 and at most 1, weight_max and remembered at least 1")
    return quality


def _fleet(document: Mapping[str, Any]) -> FleetPolicy:
    if "fleet" not in document:
        return FleetPolicy()
    fleet = _section(FleetPolicy, document, "fleet")
    if not (fleet.alike <= 1.0 <= fleet.run_length):
        raise ValueError("policy: fleet: alike is at most 1, and run_length at least 1")
    return fleet


def _section(kind: type[T], document: Mapping[str, Any], name: str) -> T:
    values = document[name]
    known = {f.name: f.type for f in fields(kind)}  # type: ignore[arg-type]
    if extra := set(values) ^ set(known):
        raise ValueError(f"policy: {name}: missing or unknown: {', '.join(sorted(extra))}")
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ValueError(f"policy: {name}.{key} must be a number of at least 0, not {value!r}")
    return kind(**{key: int(v) if known[key] == "int" else float(v) for key, v in values.items()})
