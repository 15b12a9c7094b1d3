"""Synthetic rollouts as inputs to the judge: a champion, a challenger, people who label some of it late; seeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Judged
from services.monitor.domain.inputs import DRIFT, Input, Labelled, PredictionOf, RolloutKnown, Seen
from services.monitor.domain.policy import Policy
from tests.unit.monitor.worlds import EPOCH, policy

CLASSES = 10
FEATURES = (0.0,) * 22
ROLLOUT = RolloutKnown(EPOCH, "rollout", "", "m", "r1", "1", "2", "shadow", EPOCH)

Record = tuple[str, bool, Input]


@dataclass(frozen=True, slots=True)
class Rollout:
    """Requests `apart` seconds from each other, of clients unless there is a camera.

    The champion is right with probability `right`; the challenger loses `lost` of all requests and mends `mended`, so
    its error is higher by `lost` - `mended`. `shuffled`: its classes have changed places.
    """

    seed: int
    requests: int = 2000
    right: float = 0.9
    lost: float = 0.01
    mended: float = 0.01
    shuffled: bool = False
    labelled: float = 1.0
    label_delay: int = 100
    camera_id: str = ""
    apart: float = 0.05
    rollout: RolloutKnown = ROLLOUT

    def records(self) -> Iterator[list[Record]]:
        """Batches of what one request brings; labels come `label_delay` requests late."""
        rng = np.random.default_rng(self.seed)
        truth, other = rng.integers(0, CLASSES, self.requests), rng.integers(1, CLASSES, (2, self.requests))
        chance = rng.random((3, self.requests))
        champion_right = chance[0] < self.right
        flips = np.where(champion_right, chance[1] < self.lost / self.right, chance[1] < self.mended / (1 - self.right))
        champion = np.where(champion_right, truth, (truth + other[0]) % CLASSES)
        flipped = np.where(champion_right, (truth + other[1]) % CLASSES, truth)
        challenger = np.where(flips, flipped, champion)
        if self.shuffled:
            challenger = (challenger + rng.integers(1, CLASSES)) % CLASSES
        drawn = chance[2] < self.labelled
        yield [("registry/0", False, self.rollout)]
        for n in range(self.requests + self.label_delay):
            batch: list[Record] = []
            if n < self.requests:
                batch += [self.seen(n, "1", int(champion[n])), self.seen(n, "2", int(challenger[n]))]
            if (m := n - self.label_delay) >= 0 and drawn[m]:
                batch.append(self.label(m, n, int(truth[m]), int(champion[m])))
            yield batch

    def time(self, n: int) -> float:
        """When request `n` arrived."""
        return EPOCH + 1.0 + n * self.apart

    def seen(self, n: int, version: str, said: int) -> Record:
        """An answer to request `n`."""
        role = "champion" if version == "1" else "shadow"
        asset, key = f"a{n}", f"p{n}/{version}"
        item = Seen(
            self.time(n), key, "", "m", version, role, self.camera_id, asset, str(said), 0.9, FEATURES, asset, "r1", 5.0
        )
        return ("predictions/0", True, item)

    def label(self, m: int, n: int, truth: int, said: int) -> Record:
        """The label of request `m`, given at the time of request `n`; drawn as for a drift, which costs less time."""
        reference = PredictionOf("m", "1", "champion", str(said), 0.9)
        given = self.time(n) + 0.5 * self.apart
        item = Labelled(
            given, f"l{m}", "", f"a{m}", self.camera_id, self.time(m), 1, str(truth), DRIFT, 0.05, (reference,)
        )
        return ("labels/0", False, item)

    def run(self, used: Policy | None = None, until: frozenset[str] = frozenset()) -> list[Judged]:
        """Everything that is said of the challenger, up to the first verdict among `until`."""
        engine = Engine.new(used or policy())
        said: list[Judged] = []
        for batch in (*self.records(), None):
            findings = engine.drain() if batch is None else engine.feed(batch)
            said += [f for f in findings if isinstance(f, Judged)]
            place = next((n for n, one in enumerate(said) if one.verdict in until), None)
            if place is not None:
                return said[: place + 1]
        return said


def without_disagreement() -> Policy:
    """The shipped policy, but labels alone decide."""
    shipped = policy()
    return replace(shipped, challenge=replace(shipped.challenge, disagreement_share=1.0))
