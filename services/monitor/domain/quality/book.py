"""The labels of a bounded stretch of event time by asset, and the counts that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, NamedTuple
from zlib import crc32

from services.monitor.domain.policy import QualityPolicy
from services.monitor.domain.quality.detection import Compared
from services.monitor.domain.quality.tally import Tally
from services.monitor.domain.quality.truth import Entry, Said, Truth

BUCKETS: Final = 512
"""Shelves of the book and pieces of the snapshot, by hash of the asset: a label writes one of them again."""
HOUR: Final = 3_600_000_000
"""Microseconds."""
_LOST: Final = 1000
_AHEAD: Final = 300_000_000  # As ingest: nothing is captured five minutes after it was looked at.


class Cell(NamedTuple):
    """What is counted together; `hour` is the number of the hour since 1970 in which the frames were captured."""

    model: str
    version: str
    role: str
    camera_id: str
    hour: int
    drawn: bool


@dataclass(slots=True)
class Account:
    """What became of the label events; what each number means stands in the contract's `LabelAccount`."""

    heard: int = 0
    repeated: int = 0
    unjoined: int = 0
    ahead: int = 0
    too_late: int = 0
    expired: int = 0


@dataclass(slots=True)
class TruthBook:
    """Labels of the last `horizon_hours` of capture time, at most `remembered` of them: those captured last.

    What is kept, and so every count, is a function of the set of labels heard, not of their order: the newest frames
    by (capture time, asset) within the horizon. `floor` is the newest that was let go to keep to `remembered`;
    `lost` are the (model, version) of which a label was let go or came too late.
    """

    policy: QualityPolicy = field(default_factory=QualityPolicy)
    shelves: list[dict[str, Entry]] = field(default_factory=lambda: [{} for _ in range(BUCKETS)])
    size: int = 0
    cells: dict[Cell, Tally] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    newest: int = 0
    floor: tuple[int, str] = (0, "")
    lost: dict[tuple[str, str], None] = field(default_factory=dict)
    withdrawn: int = 0
    corrected: int = 0
    changes: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    oldest: list[tuple[int, str]] = field(default_factory=list)

    def take(self, truth: Truth) -> None:
        """Enter a revision of a label; one that is known already changes nothing but the account."""
        self.account.heard += 1
        if truth.captured_at > truth.given_at + _AHEAD:
            self.account.ahead += 1
        elif self._is_over(truth.captured_at, truth.asset_id):
            self.account.too_late += 1
            self._lose(truth.said.values())
        elif (
            not truth.said and truth.revision <= 1
        ):  # A first label; a correction may be heard before what it corrects.
            self.account.unjoined += 1
        else:
            self._enter(truth)
            self.newest = max(self.newest, truth.captured_at)
            self._let_go()

    def put(self, entry: Entry) -> None:
        """Enter an entry of an asset that is not there: a new one, or as a snapshot had it."""
        self._note(entry.asset_id)
        self.shelves[bucket(entry.asset_id)][entry.asset_id] = entry
        self.size += 1
        heappush(self.oldest, (entry.captured_at, entry.asset_id))
        self._tell(entry, 1)

    def find(self, asset_id: str) -> Entry | None:
        """What is known of an asset."""
        return self.shelves[bucket(asset_id)].get(asset_id)

    def since(self) -> int:
        """Frames captured before this are not counted, in microseconds since 1970."""
        return max(self.newest - int(self.policy.horizon_hours * HOUR), self.floor[0], 0)

    def sum(self, chosen: Callable[[Cell], bool], key: Callable[[Cell], Cell]) -> dict[Cell, Tally]:
        """The counts of the chosen cells, put together by `key`."""
        found: dict[Cell, Tally] = {}
        for cell, tally in self.cells.items():
            if chosen(cell):
                found.setdefault(key(cell), Tally()).add(tally)
        return found

    def compared(self, chosen: Callable[[Cell], bool]) -> Iterator[tuple[Cell, Compared]]:
        """A detector's labelled frames in the chosen cells."""
        for entry in (entry for shelf in self.shelves for entry in shelf.values() if entry.matched):
            for key, matched in entry.matched.items():
                said, cell = entry.said[key], self._cell(entry, entry.said[key])
                if entry.boxes is not None and said.found is not None and chosen(cell):
                    yield cell, Compared(entry.boxes, said.found, matched, said.threshold)

    def _is_over(self, captured_at: int, asset_id: str) -> bool:
        return captured_at < self.newest - self.policy.horizon_hours * HOUR or (captured_at, asset_id) <= self.floor

    def _enter(self, truth: Truth) -> None:
        entry = self.find(truth.asset_id)
        if entry is None:
            self.put(Entry.of(truth))
            return
        self._tell(entry, -1)
        captured_at = entry.captured_at
        if entry.merge(truth):
            self._note(truth.asset_id)
        else:
            self.account.repeated += 1
        self._tell(entry, 1)
        if entry.captured_at != captured_at:
            heappush(self.oldest, (entry.captured_at, entry.asset_id))

    def _let_go(self) -> None:
        """Forget what is older than the horizon, then the oldest of what is too much."""
        while self.oldest:
            captured_at, asset_id = self.oldest[0]
            if not self._is_over(captured_at, asset_id) and self.size <= self.policy.remembered:
                return
            heappop(self.oldest)
            entry = self.find(asset_id)
            if entry is None or entry.captured_at != captured_at:
                continue
            if not self._is_over(captured_at, asset_id):
                self.floor = (captured_at, asset_id)
            del self.shelves[bucket(asset_id)][asset_id]
            self.size -= 1
            self._tell(entry, -1)
            self._note(asset_id)
            self._lose(entry.said.values())
            self.account.expired += 1

    def _lose(self, said: Iterable[Said]) -> None:
        for one in said:
            self.lost[one.model, one.version] = None
        while len(self.lost) > _LOST:
            del self.lost[next(iter(self.lost))]

    def _tell(self, entry: Entry, sign: int) -> None:
        """Count an entry in, or out again."""
        self.withdrawn += sign * (not entry.known())
        self.corrected += sign * entry.disputed
        for key, said in entry.said.items():
            cell = self._cell(entry, said)
            tally = self.cells.setdefault(cell, Tally())
            tally.count(entry, said, self.policy, sign, entry.matched.get(key))
            if tally.empty():
                del self.cells[cell]

    def _cell(self, entry: Entry, said: Said) -> Cell:
        drawn = entry.propensity > 0.0
        return Cell(said.model, said.version, said.role, entry.camera_id, entry.captured_at // HOUR, drawn)

    def _note(self, asset_id: str) -> None:
        self.changes[bucket(asset_id)] += 1


def bucket(asset_id: str) -> int:
    """Number of the shelf that holds an asset's entry, 0..511."""
    return crc32(asset_id.encode()) % BUCKETS
