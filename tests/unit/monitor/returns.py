"""Cameras whose light changes and comes back, versions that were each trained for one light, and people who may go back
to an earlier version: seeded inputs to the judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.channels import PIXELS, WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, DriftFound, Finding, Incident, Refusal, Request
from services.monitor.domain.inputs import CHAMPION, Input, Labelled, PredictionOf, Seen, VersionKnown
from services.monitor.domain.policy import Policy
from tests.unit.monitor.worlds import CLASSES, EPOCH, policy

Batch: TypeAlias = list[tuple[str, bool, Input]]

AT_HOME: Final = 0.1
ELSEWHERE: Final = 0.4
HOMES: Final = {"1": "A", "2": "B", "3": "A", "4": "B"}
"""In which light a version was trained."""
_PIXELS: Final = len(PIXELS)


@dataclass(frozen=True, slots=True)
class Phase:
    """So many seconds of one light, with one version as the champion; `part`: the light is so far from A."""

    seconds: int
    light: str
    version: str
    part: float = 1.0


@dataclass(slots=True)
class Lights:
    """Cameras with a frame a second, AR(1) with `rho`. A light moves the nine pixel channels by `size` standard
    deviations in a direction of its own (A: not at all). `obeys`: a former version that is proposed is the champion a
    minute later, to the end.
    """

    seed: int
    phases: tuple[Phase, ...]
    cameras: int = 4
    size: float = 8.0
    rho: float = 0.0
    obeys: bool = False
    labelled: float = 0.15
    findings: list[Finding] = field(default_factory=list)
    _promoted: tuple[int, str] | None = None

    def run(self, rules: Policy | None = None, engine: Engine | None = None) -> Engine:
        """Judge all of it."""
        engine = engine or Engine.new(rules or policy())
        for batch in self.batches():
            self.hear(engine.feed(batch))
        self.hear(engine.drain())
        return engine

    def hear(self, findings: list[Finding]) -> None:
        """What was said; who obeys goes back to a version that is proposed."""
        self.findings += findings
        for one in findings:
            if self.obeys and isinstance(one, Alert) and "irisloop models promote m " in one.summary:
                said = one.summary.partition("irisloop models promote m ")[2]
                self._promoted = (round(one.at - EPOCH) + 60, said.partition(";")[0])

    def batches(self) -> Iterator[Batch]:
        """A frame of each camera at once, and the labels that are due."""
        rng = np.random.default_rng([37, self.seed])
        base = 5.0 * rng.normal(size=(self.cameras, WIDTH))
        lights = self._lights(rng)
        noise = rng.normal(size=(self.cameras, WIDTH))
        due: list[Labelled] = []
        known: set[str] = set()
        now = 0
        for phase in self.phases:
            for _ in range(phase.seconds):
                version = phase.version
                if self._promoted is not None and now >= self._promoted[0]:
                    version = self._promoted[1]
                batch: Batch = [] if version in known else [("registry/0", False, self._report(version, now))]
                known.add(version)
                noise = self.rho * noise + np.sqrt(1.0 - self.rho**2) * rng.normal(size=noise.shape)
                rows = base + noise
                rows[:, :_PIXELS] += phase.part * lights[phase.light]
                error = AT_HOME if HOMES.get(version) == phase.light and phase.part == 1.0 else ELSEWHERE
                for camera, row in enumerate(rows):
                    seen, label = self._frame(rng, now, camera, row, version, error)
                    batch.append((f"predictions/{camera}", True, seen))
                    due += [label] if rng.random() < self.labelled else []
                ready, due = [one for one in due if one.at <= EPOCH + now], [one for one in due if one.at > EPOCH + now]
                yield [*batch, *(("labels/0", False, one) for one in ready)]
                now += 1

    def _report(self, version: str, now: int) -> VersionKnown:
        """Registry takes a version in, which answers the last request."""
        asked = self.requests()[-1].id if self.requests() else ""
        return VersionKnown(EPOCH + now - 0.5, f"report-{version}", "", "m", version, asked, "accepted", AT_HOME, 2000)

    def _lights(self, rng: np.random.Generator) -> Mapping[str, NDArray[np.float64]]:
        found = {"A": np.zeros(_PIXELS)}
        for name in "BCD":
            direction = rng.normal(size=_PIXELS)
            found[name] = self.size * direction / np.linalg.norm(direction)
        return found

    def _frame(
        self, rng: np.random.Generator, now: int, camera: int, row: NDArray[np.float64], version: str, error: float
    ) -> tuple[Seen, Labelled]:
        at, name, key = EPOCH + now + camera / self.cameras, f"camera-{camera}", f"{now}-{camera}"
        truth = int(rng.integers(len(CLASSES)))
        said = truth if rng.random() >= error else (truth + 1 + int(rng.integers(9))) % 10
        seen = Seen(at, key, "", "m", version, CHAMPION, name, key, CLASSES[said], 0.9, tuple(row.tolist()))
        answered = (PredictionOf("m", version, CHAMPION, CLASSES[said], 0.9),)
        label = Labelled(
            at + 20.0, f"l{key}", "", key, name, at, 1, CLASSES[truth], "uniform", self.labelled, answered, "ann"
        )
        return seen, label

    def incidents(self) -> list[Incident]:
        """The newest word about each, in order of their begin."""
        return list({f.incident.id: f.incident for f in self.findings if isinstance(f, DriftFound)}.values())

    def requests(self) -> list[Request]:
        """Retrainings asked for."""
        return [f for f in self.findings if isinstance(f, Request)]

    def refusals(self, code: str) -> list[Refusal]:
        """Of one reason."""
        return [f for f in self.findings if isinstance(f, Refusal) and f.reason.startswith(code)]

    def proposals(self) -> list[Alert]:
        """Former versions that people were told of."""
        return [f for f in self.findings if isinstance(f, Alert) and "stored_model" in f.summary]


def course(last: str, seconds: int = 400, part: float = 1.0) -> tuple[Phase, ...]:
    """Version 1 in A, B comes, version 2 is trained for it; then the light `last`."""
    return (Phase(350, "A", "1"), Phase(150, "B", "1"), Phase(350, "B", "2"), Phase(seconds, last, "2", part))
