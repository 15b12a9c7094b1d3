"""The policy file as typed values; what each field means stands beside it in `policy.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.monitor.domain.detectors.choice import CUSUM, E_DETECTOR, DetectorChoice
from services.monitor.domain.policy_reading import (
    known,
    read_fleet,
    read_models,
    read_probe,
    read_quality,
    read_section,
)
from services.monitor.domain.quiethours import QuietHours


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """How records of many partitions are put in order."""

    lateness_seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """How a camera's normal is learnt; the last two came later, so a file may do without."""

    frames: int
    effective: int
    frames_max: int
    pooled: int
    frames_pooled: int = 80
    effective_pooled: int = 40


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
    detector: DetectorChoice = CUSUM


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """How the labelled error is watched; `detector` came later, so a file may do without."""

    run_length: float
    baseline: int
    report_weight: int
    adwin_delta: float
    remembered: int
    detector: DetectorChoice = E_DETECTOR


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
    """When a retraining is asked for; the last six came later, so a file may do without."""

    labels_wanted: int
    expires_seconds: float
    cooldown_seconds: float
    budget_a_day: int
    cost_of_error: float
    cost_of_run: float
    horizon_days: float
    cooldown_trainings: float = 4.0
    labels_between: int = 0
    approval: bool = False
    regain_least: float = 0.5
    quiet_hours: tuple[QuietHours, ...] = ()
    stored_wait_seconds: float = 3600.0


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
class ProbePolicy:
    """How many old answers are asked for again before a change of what classes mean is confirmed (0: none), how long
    they are waited for, how often the verdict on them may be wrong, and how often two people's answers to one asset
    differ at most while classes mean what they meant.
    """

    assets: int = 30
    wait_seconds: float = 14_400.0
    error_rate: float = 0.05
    usual: float = 0.1


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it. `quality`, `fleet`, `probe` and `models` came later, so a file may do without; `models` holds the
    whole policy of each model that departs from the file's.
    """

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
    probe: ProbePolicy = ProbePolicy()
    models: Mapping[str, Policy] = field(default_factory=dict)

    def of(self, model: str) -> Policy:
        """What holds for a model."""
        return self.models.get(model, self)

    def watched_by(self, detector: DetectorChoice) -> Policy:
        """The same with another detector on the channels, for every model."""
        models = {name: one.watched_by(detector) for name, one in self.models.items()}
        return replace(self, channels=replace(self.channels, detector=detector), models=models)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Policy:
        """From the parsed file; a field that is missing, unknown or out of range is a ValueError that names it."""
        known(document, required=_REQUIRED, optional=("quality", "fleet", "probe", "models"))
        own = {name: read_section(kind, document[name], name) for name, kind in _KINDS.items()}
        plain = cls(
            **own,
            quality=read_quality(QualityPolicy, document),
            fleet=read_fleet(FleetPolicy, document),
            probe=read_probe(read_section(ProbePolicy, document.get("probe", {}), "probe"), "probe"),
        )
        departing = read_models(document, plain, {**_KINDS, "probe": ProbePolicy})
        for name, policy in departing.items():
            read_probe(policy.probe, f"models.{name}.probe")
        return replace(plain, models=departing)


_KINDS: dict[str, Any] = {
    "merge": MergePolicy,
    "reference": ReferencePolicy,
    "channels": ChannelPolicy,
    "labels": LabelPolicy,
    "harm": HarmPolicy,
    "shape": ShapePolicy,
    "retrain": RetrainPolicy,
    "challenge": ChallengePolicy,
}
_REQUIRED = tuple(_KINDS)
