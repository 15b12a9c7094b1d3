"""Synthetic cameras, a synthetic model and annotators, as inputs to the judge: small, seeded, and drifting on
demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, Finding
from services.monitor.domain.inputs import Input, Labelled, PredictionOf, Seen, VersionKnown
from services.monitor.domain.policy import Policy
from services.monitor.domain.probe_events import ProbeRequest
from tests.unit.monitor.old_answers import OldAnswers

EPOCH = 1_700_000_000.0
CLASSES = tuple(f"class-{i}" for i in range(10))
POLICY_FILE = Path(__file__).parents[3] / "services" / "monitor" / "policy.yaml"


def policy() -> Policy:
    """The policy as it is shipped."""
    return Policy.read(yaml.safe_load(POLICY_FILE.read_text(encoding="utf-8")))


@dataclass(slots=True)
class World:
    """Five cameras at 20 frames a second each; from `onset` on, `moved` channels of the first `cameras` shift by
    `shift`.
    """

    seed: int
    frames: int = 8000
    onset: int = 4000
    ramp: int = 0
    shift: float = 0.0
    moved: int = 6
    cameras: int = 4
    error_before: float = 0.13
    error_after: float = 0.13
    swapped: tuple[int, int] | None = None
    uniform: float = 0.05
    drift_rate: float = 6.0
    budget: int = 800
    rho: float = 0.0
    version: str = "1"
    first: int = 0
    again: bool = True
    """Whether old assets are answered again, by the names that are in force then, when the judge asks for it."""
    incident: DriftFound | None = None
    findings: list[Finding] = field(default_factory=list)
    old: OldAnswers = field(init=False)

    def __post_init__(self) -> None:
        self.old = OldAnswers(self._named_now)

    def _named_now(self, label: Labelled, who: str) -> str:
        """After the onset the two classes have changed places on the drifted cameras."""
        name = CLASSES.index(label.class_name)
        if self.swapped and name in self.swapped and int(label.camera_id.rpartition("-")[2]) < self.cameras:
            name = sum(self.swapped) - name
        return CLASSES[name]

    def inputs(self) -> Iterator[list[tuple[str, bool, Input]]]:
        """Batches of 20 frames and of the labels that are due by then; who consumes them feeds back through `heard`."""
        rng = np.random.default_rng(self.seed)
        noise = rng.normal(size=(self.frames, WIDTH))
        if self.rho:
            for n in range(5, self.frames):
                noise[n] = self.rho * noise[n - 5] + np.sqrt(1 - self.rho**2) * noise[n]
        truth = rng.integers(0, len(CLASSES), self.frames)
        chance = rng.random((self.frames, 3))
        due: list[tuple[float, int, str]] = []
        drawn: set[int] = set()
        owed = 0.0
        yield [("registry/0", False, self.report())]
        for start in range(0, self.frames, 20):
            batch: list[tuple[str, bool, Input]] = []
            for n in range(start, min(start + 20, self.frames)):
                batch.append((f"predictions/{n % 5}", True, self.seen(n, noise[n], int(truth[n]), chance[n])))
                if chance[n, 1] < self.uniform and self.allowed(n, drawn):
                    drawn.add(n)
                    due.append((self.time(n) + 5 + 3 * chance[n, 2], n, "uniform"))
                if self.incident is not None and self.allowed(n, drawn):
                    owed += self.drift_rate / 100
                    if owed >= 1 and n not in drawn and f"camera-{n % 5}" in self.incident.incident.cameras:
                        owed -= 1
                        drawn.add(n)
                        due.append((self.time(n) + 5 + 3 * chance[n, 2], n, "drift"))
            now = self.time(start + 19)
            ready, due = [d for d in due if d[0] <= now], [d for d in due if d[0] > now]
            for at, n, origin in sorted(ready):
                label = self.label(at, n, origin, int(truth[n]), chance[n])
                self.old.note(label)
                batch.append((f"labels/{n % 5}", False, label))
            batch += [("probes/0", False, answer) for answer in self.old.due(now)]
            yield batch

    def report(self) -> VersionKnown:
        """What registry knew of the version."""
        return VersionKnown(EPOCH - 10, "report", "", "m", self.version, "", "accepted", self.error_before, 2000)

    def time(self, n: int) -> float:
        """Capture time of a frame."""
        return EPOCH + (self.first + n) / 100

    def allowed(self, n: int, drawn: set[int]) -> bool:
        """Whether the annotators' budget after onset lets another frame be drawn."""
        return sum(1 for d in drawn if d >= self.onset) < self.budget if n >= self.onset else True

    def drifted(self, n: int) -> float:
        """How far the change has come at a frame, 0..1."""
        if n < self.onset or n % 5 >= self.cameras:
            return 0.0
        return min(1.0, (n - self.onset + 1) / self.ramp) if self.ramp else 1.0

    def predicted(self, n: int, truth: int, chance: np.ndarray) -> int:
        """The model's answer: wrong with the error's probability."""
        error = self.error_before + (self.error_after - self.error_before) * self.drifted(n)
        return truth if chance[0] >= error else (truth + 1 + int(chance[2] * 9)) % 10

    def seen(self, n: int, noise: np.ndarray, truth: int, chance: np.ndarray) -> Seen:
        """A frame's prediction."""
        features = noise.copy()
        features[: self.moved] += self.shift * self.drifted(n)
        name = CLASSES[self.predicted(n, truth, chance)]
        n = self.first + n
        return Seen(
            self.time(n - self.first),
            f"p{n}",
            f"trace-{n}",
            "m",
            self.version,
            "champion",
            f"camera-{n % 5}",
            f"asset-{n}",
            name,
            0.9,
            tuple(features.tolist()),
        )

    def label(self, at: float, n: int, origin: str, truth: int, chance: np.ndarray) -> Labelled:
        """An annotator's answer, by the names that are in force."""
        answer = truth
        if self.swapped and truth in self.swapped and self.drifted(n) > 0:
            answer = sum(self.swapped) - truth
        said = PredictionOf("m", self.version, "champion", CLASSES[self.predicted(n, truth, chance)], 0.9)
        key = self.first + n
        return Labelled(
            at,
            f"l{key}",
            "",
            f"asset-{key}",
            f"camera-{key % 5}",
            self.time(n),
            1,
            CLASSES[answer],
            origin,
            0.05,
            (said,),
        )

    def heard(self, findings: list[Finding]) -> None:
        """Labeling listens: it draws the drifted frames while an incident is open."""
        self.findings += findings
        for finding in findings:
            if isinstance(finding, DriftFound):
                self.incident = None if finding.incident.closed_at else finding
            elif isinstance(finding, ProbeRequest) and self.again:
                self.old.ask(finding)

    def run(self, engine: Engine | None = None) -> Engine:
        """Judge all of it."""
        engine = engine or Engine.new(policy())
        for batch in self.inputs():
            self.heard(engine.feed(batch))
        self.heard(engine.drain())
        return engine

    def of(self, kind: type) -> list[Finding]:
        """Findings of one kind."""
        return [f for f in self.findings if isinstance(f, kind)]

    def frame(self, at: float) -> int:
        """Number of the frame at a time."""
        return round((at - EPOCH) * 100) - self.first


def again(world: World) -> World:
    """The same world, not yet run."""
    return replace(world, incident=None, findings=[])
