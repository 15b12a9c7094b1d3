"""The policies that are compared: an oracle, ours, and what people do without a monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from river.drift import ADWIN

from services.monitor.domain.channels import CONFIDENCE, EMBEDDING, PIXELS
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, Finding, Request
from services.monitor.domain.inputs import (
    DRIFT,
    OTHER,
    UNIFORM,
    Input,
    Labelled,
    PredictionOf,
    RunEnded,
    Seen,
    Tried,
    VersionKnown,
)
from services.monitor.domain.policy import Policy
from tests.bench.monitor import cost_world as world
from tests.bench.monitor.cost_loop import EPOCH, Label, Version
from tests.bench.monitor.cost_world import DAY, Array, Burst, Ints, World, logits, probabilities
from tests.unit.monitor.worlds import policy


def _adwin() -> Any:
    kind: Any = ADWIN
    return kind()


@dataclass(slots=True)
class Never:
    """Leaves the first version alone."""

    name: str = "never"

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        return None

    def wants(self, camera: int) -> bool:
        return False

    def ended(self, now: float, version: Version | None, tried: Tried) -> None:
        pass


@dataclass(slots=True)
class Always(Never):
    """Asks again as soon as a run has ended."""

    name: str = "always"

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        return now


@dataclass(slots=True)
class Periodic(Never):
    """Asks every so many days, whatever happens."""

    days: float = 30.0
    name: str = "every 30 days"

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        due = burst.number > 0 and burst.number % round(self.days * world.BURSTS) == 0
        return now if due else None


@dataclass(slots=True)
class OnAdwin(Never):
    """Asks whenever River's ADWIN at its defaults fires on the uniform labels' errors."""

    name: str = "every ADWIN alarm"
    detector: Any = field(default_factory=_adwin)

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        fired = False
        for label in labels:
            if label.origin == "uniform":
                self.detector.update(float(label.truth != label.said))
                fired |= self.detector.drift_detected
        return now if fired else None


@dataclass(slots=True)
class OnAdwinChannels(Never):
    """Asks whenever one of 22 ADWINs at their defaults fires on a channel."""

    name: str = "every ADWIN alarm, channels"
    detectors: list[Any] = field(default_factory=list)

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        values = features(burst.frames, version.weights)
        self.detectors = self.detectors or [_adwin() for _ in range(values.shape[1])]
        fired = False
        for row in values:
            for detector, value in zip(self.detectors, row, strict=True):
                detector.update(float(value))
                fired |= detector.drift_detected
        return now if fired else None


@dataclass(slots=True)
class Oracle(Never):
    """Knows every change, and what the live version and a new one would lose until the next; asks in the moment when a
    change that pays is complete.
    """

    world: World | None = None
    name: str = "oracle"

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        assert self.world is not None
        episode = next((e for e in self.world.episodes if e.level == burst.number), None)
        if episode is None:
            return None
        lost = self.world.error_now(version.weights, burst.number) - self.world.attainable
        frames = world.FRAMES * (episode.end - episode.level)
        return now if lost * frames * world.COST_OF_ERROR > world.COST_OF_RUN else None


def rules() -> Policy:
    """The shipped policy with what this world's owner would write into it: costs, lengths, and as harmless what
    would not pay for a run. Nobody here could be asked about old frames again, so labels decide alone.
    """
    shipped = policy()
    retrain = replace(
        shipped.retrain,
        labels_wanted=world.LABELS_WANTED,
        expires_seconds=14 * DAY,
        cooldown_seconds=DAY,
        cost_of_error=world.COST_OF_ERROR,
        cost_of_run=world.COST_OF_RUN,
        horizon_days=14.0,
    )
    pays_from = world.COST_OF_RUN / (world.FRAMES * world.BURSTS * retrain.horizon_days * world.COST_OF_ERROR)
    harm = replace(shipped.harm, none_below=pays_from)
    return replace(
        shipped,
        retrain=retrain,
        harm=harm,
        shape=replace(shipped.shape, level_wait_seconds=10 * DAY),
        probe=replace(shipped.probe, assets=0),
    )


@dataclass(slots=True)
class Irisloop:
    """The monitor's engine with that policy; labeling draws while an incident is open, at most 100 labels for each."""

    name: str = "Irisloop"
    engine: Engine = field(default_factory=lambda: Engine.new(rules()))
    open: DriftFound | None = None
    budget: int = 0
    begun: bool = False
    request: Request | None = None
    findings: list[Finding] = field(default_factory=list)

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        items: list[tuple[str, bool, Input]] = []
        if not self.begun:
            self.begun = True
            items.append(("registry/0", False, _known(EPOCH - 10, version, "")))
        values = features(burst.frames, version.weights)
        for i, row in enumerate(values):
            items.append((f"predictions/{i % world.CAMERAS}", True, _seen(now, burst.number, i, row, said, version)))
        items += [("labels/0", False, _labelled(label)) for label in labels]
        return self._hear(self.engine.feed(items))

    def _hear(self, findings: list[Finding]) -> float | None:
        self.findings += findings
        since = None
        for finding in findings:
            if isinstance(finding, DriftFound):
                if finding.revision == 1:
                    self.budget = 100
                self.open = None if finding.incident.closed_at else finding
            elif isinstance(finding, Request):
                self.request, since = finding, finding.labels_since
        return since

    def wants(self, camera: int) -> bool:
        if self.open is None or self.budget <= 0 or f"camera-{camera}" not in self.open.incident.cameras:
            return False
        self.budget -= 1
        return True

    def ended(self, now: float, version: Version | None, tried: Tried) -> None:
        assert self.request is not None
        asked = self.request
        items: list[tuple[str, bool, Input]] = [
            ("trainer/0", False, RunEnded(now, f"run-{now}", "", "m", asked.id, True, "", world.TRAINING, tried))
        ]
        if version is not None:
            items.append(("registry/0", False, _known(now, version, asked.id)))
        self._hear(self.engine.feed(items))


def _known(at: float, version: Version, request_id: str) -> VersionKnown:
    return VersionKnown(
        at,
        f"version-{version.number}",
        "",
        "m",
        str(version.number),
        request_id,
        "accepted",
        version.error,
        version.assets,
    )


def _seen(now: float, burst: int, i: int, row: Array, said: Ints, version: Version) -> Seen:
    key = f"{burst}-{i}"
    at, camera, name = now + i / world.FRAMES, f"camera-{i % world.CAMERAS}", f"class-{said[i]}"
    return Seen(at, f"p{key}", "", "m", str(version.number), "champion", camera, key, name, 0.9, tuple(row.tolist()))


def _labelled(label: Label) -> Labelled:
    """With what the version that answered the frame had said."""
    return Labelled(
        at=label.at,
        ce_id=f"l{label.key}",
        traceparent="",
        asset_id=label.key,
        camera_id=f"camera-{label.camera}",
        captured_at=label.captured_at,
        revision=1,
        class_name=f"class-{label.truth}",
        origin=label.origin if label.origin in (UNIFORM, DRIFT) else OTHER,
        propensity=world.UNIFORM,
        predictions=(PredictionOf("m", str(label.version), "champion", f"class-{label.said}", 0.9),),
    )


_MIX = np.random.default_rng(5).normal(size=(world.WIDTH, 8)) / 4.0


def features(frames: Array, weights: Array) -> Array:
    """What serving would say of frames of shape (n, 16): the channels' values, shape (n, 22)."""
    scores = logits(weights, frames)
    shares = np.sort(probabilities(scores), axis=1)
    before = np.vstack([frames[:1], frames[:-1]])
    pixels = [
        frames.mean(axis=1), frames.std(axis=1), np.abs(np.diff(frames, axis=1)).mean(axis=1),
        frames[:, :5].mean(axis=1), frames[:, 5:10].mean(axis=1), frames[:, 10:].mean(axis=1),
        (frames < -1.5).mean(axis=1), (frames > 1.5).mean(axis=1), np.abs(frames - before).mean(axis=1),
    ]  # fmt: skip
    confidence = [
        shares[:, -1], shares[:, -1] - shares[:, -2], -(shares * np.log(shares + 1e-12)).sum(axis=1),
        np.log(np.exp(scores).sum(axis=1)),
    ]  # fmt: skip
    embedding = [*(frames @ _MIX).T, np.linalg.norm(frames, axis=1)]
    assert (len(pixels), len(confidence), len(embedding)) == (len(PIXELS), len(CONFIDENCE), len(EMBEDDING))
    values: Array = np.stack([*pixels, *confidence, *embedding], axis=1)
    return values


def everybody(plan: World) -> list[Any]:
    """All that are compared in a world, the oracle first."""
    return [
        Oracle(world=plan),
        Irisloop(),
        Periodic(days=30.0, name="every 30 days"),
        Periodic(days=7.0, name="every 7 days"),
        OnAdwin(),
        OnAdwinChannels(),
        Always(),
        Never(),
    ]
