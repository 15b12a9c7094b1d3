"""Pairs of answers on the same input that wait for their partner or a label: the newest so many."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor

from services.monitor.domain.inputs import Labelled, Seen

_REMEMBERED_SLOTS = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """What one version said; `latency_ms` 0 where not known, `beside` when it ran for comparison only."""

    class_name: str
    failed: bool = False
    latency_ms: float = 0.0
    beside: bool = True
    lost: float | None = None
    """A detector's loss, 0..1, as a label told it; None for a classifier."""

    @classmethod
    def of(cls, item: Seen) -> Answer:
        """A prediction's."""
        return cls(item.class_name, item.failed, item.latency_ms, item.role == "shadow")

    def loss(self, truth: str) -> float:
        """1 for a wrong answer or none; of a detector how wrong it was."""
        if self.lost is not None:
            return self.lost
        return float(self.failed or self.class_name != truth)


@dataclass(slots=True)
class Pair:
    """Two answers and a label, as far as they have come; `counted`: it stands for its camera and time slot."""

    key: str
    number: int
    camera_id: str
    at: float
    counted: bool
    offered: bool = False
    champion: Answer | None = None
    challenger: Answer | None = None
    truth: str = ""
    weight: float = 0.0
    labelled: bool = False

    @property
    def whole(self) -> bool:
        """Whether both answers are here."""
        return self.champion is not None and self.challenger is not None


@dataclass(slots=True)
class Slots:
    """Neighbouring frames of a camera are alike: one outcome for each camera and time slot, whoever comes first."""

    newest: dict[str, int] = field(default_factory=dict)
    taken: dict[str, None] = field(default_factory=dict)

    def claim(self, camera_id: str, at: float, seconds: float) -> bool:
        """For answers, which come in event time."""
        if not camera_id or seconds <= 0.0:
            return True
        slot = floor(at / seconds)
        if slot <= self.newest.get(camera_id, -1):
            return False
        self.newest[camera_id] = slot
        return True

    def claim_label(self, camera_id: str, at: float, seconds: float) -> bool:
        """For labels, which come when people have answered; the newest 2,000 slots are remembered."""
        if not camera_id or seconds <= 0.0:
            return True
        slot = f"{camera_id}/{floor(at / seconds)}"
        if slot in self.taken:
            return False
        self.taken[slot] = None
        if len(self.taken) > _REMEMBERED_SLOTS:
            del self.taken[next(iter(self.taken))]
        return True


@dataclass(slots=True)
class PairBook:
    """The pairs by key, oldest first, of the newest `capacity` that were opened.

    `dropped` were forgotten while they still waited for a partner.
    """

    entries: dict[str, Pair] = field(default_factory=dict)
    capacity: int = 1
    count: int = 0
    dropped: int = 0

    def open(self, key: str, camera_id: str, at: float, counted: bool, capacity: int) -> Pair:
        """A new pair; the oldest makes room for it."""
        pair = self.entries[key] = Pair(key, self.count, camera_id, at, counted)
        self.count += 1
        self.capacity = max(capacity, 1)
        while self.count - self.floor() > self.capacity:
            gone = self.entries.pop(next(iter(self.entries)))
            self.dropped += not gone.whole
        return pair

    def close(self, pair: Pair) -> None:
        """No label can come for it."""
        self.entries.pop(pair.key, None)

    def floor(self) -> int:
        """Number of the oldest pair that is kept."""
        return next(iter(self.entries.values())).number if self.entries else self.count


def key_of(item: Seen | Labelled) -> str:
    """What the answers on one input have in common."""
    return (item.pair_id or item.asset_id) if isinstance(item, Seen) else item.asset_id
