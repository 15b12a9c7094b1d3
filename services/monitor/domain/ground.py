"""The labels that a verdict on harm rests on: when they are corrected or taken back, it is judged anew.

Labels that come later change no verdict: looking at each of them until one is lucky would. A correction is different:
what was counted is no longer so, and a verdict that those labels, as they stand now, would not have brought about is
revised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from services.monitor.domain import risk
from services.monitor.domain.events import Harm, Risk
from services.monitor.domain.inputs import DRIFT, UNIFORM
from services.monitor.domain.labels import Joined
from services.monitor.domain.policy import HarmPolicy
from services.monitor.domain.risk import Count

Sides: TypeAlias = tuple[bool, bool, bool, bool, bool, bool]
"""Whether a label counts to: before, since, settled; of the confused classes before, since; and to lately."""


@dataclass(slots=True)
class Ground:
    """Counts of the labels of one verdict, as they stand now.

    `number`: labels that came first before it had lower ones. `until`: baseline labels are of frames captured before;
    the others are of `cameras`, captured from `began` on, those that are `settled` from `level` on (0: none are), and
    were given after `told`. `names` are the confused classes that were looked at by themselves. `lately`: the error was
    also held against that of frames captured from then on, until `began`; 0: it was not.
    """

    incident_id: str
    version: str
    harm: Harm
    number: int
    until: float
    began: float
    level: float
    told: float
    cameras: tuple[str, ...]
    doubted: tuple[str, ...]
    names: tuple[str, ...]
    lately: float = 0.0
    counts: list[Count] = field(default_factory=lambda: [Count()] * 6)
    """In the order of `Sides`; the first with what the held-out report lends, the fourth with a prior."""
    corrected: int = 0
    judged: int = 0
    """How many corrections there had been when it was last judged."""
    revision: int = 0
    traceparent: str = ""

    def add(self, label: Joined) -> None:
        """Count a label, when it is held."""
        self._count(self._sides(label), label, 1.0)

    def amend(self, old: Joined, new: Joined) -> None:
        """A label that was known has another revision: it counts where it did."""
        if old.first >= self.number or old.version != self.version:
            return
        sides = self._sides(old if old.truth else new)
        if any(sides) and (old.truth, old.cost) != (new.truth, new.cost):
            self._count(sides, old, -1.0)
            self._count(sides, new, 1.0)
            self.corrected += 1

    def verdict(self, policy: HarmPolicy) -> Harm:
        """What the labels, as they stand now, would have said."""
        before, since, settled, named_before, named_since, lately = self.counts
        if self.names and risk.crossed(named_before, named_since, policy, policy.focus_min):
            return Harm.CROSSED
        if self.lately and any(risk.crossed(lately, c, policy, policy.labels_min) for c in (since, settled)):
            return Harm.CROSSED
        return risk.verdict(before, since, settled, policy)

    def evidence(self) -> Risk:
        """For people."""
        return risk.evidence(self.counts[0], self.counts[1])

    def _sides(self, e: Joined) -> Sides:
        trusted = e.annotator not in self.doubted
        before = e.origin == UNIFORM and e.captured_at < self.until
        since = trusted and e.captured_at >= self.began and e.camera_id in self.cameras and e.given_at > self.told
        named = e.predicted in self.names
        settled = since and self.level > 0.0 and e.captured_at >= self.level
        lately = trusted and e.origin == UNIFORM and 0.0 < self.lately <= e.captured_at < self.began
        return before and trusted, since, settled, before and named, since and named, lately

    def _count(self, sides: Sides, e: Joined, sign: float) -> None:
        if e.truth and e.origin in (UNIFORM, DRIFT):
            more = Count(sign * e.cost, sign)
            self.counts = [c.plus(more) if side else c for c, side in zip(self.counts, sides, strict=True)]
