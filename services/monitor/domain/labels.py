"""Labels joined to predictions, and the watch over the labelled error of one model version."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from services.monitor.domain.detectors.adwin import AdwinBank
from services.monitor.domain.detectors.mixture import MixtureDetector
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import CHAMPION, DRIFT, OTHER, UNIFORM, Labelled
from services.monitor.domain.policy import LabelPolicy
from services.monitor.domain.risk import Count

_GUARD = 40  # The newest labels do not count to the baseline yet: they may be of a change not seen so far.
_WAITING = 2_000  # At most so many labels wait until it is known whether they are normal.
_CALM = 10.0
_PAIR_PRIOR = 40.0  # How many labels' worth we believe a pair of classes to be confused as often as ...
_PAIR_SHARE = 0.1  # ... this share of all errors, ...
_PAIR_TIMES = 4.5  # ... and at least so many times the mean pair's: with two classes, all errors are one pair's.
_ERROR_STEPS = (0.04, 0.08, 0.15, 0.25, 0.4)
_PAIR_RATES = (0.05, 0.1, 0.2, 0.4)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Joined:
    """A label beside what the champion had said."""

    asset_id: str
    camera_id: str
    captured_at: float
    given_at: float
    revision: int
    version: str
    predicted: str
    truth: str
    origin: str
    number: int = 0
    annotator: str = ""

    @property
    def wrong(self) -> bool:
        """Whether label and prediction differ."""
        return self.predicted != self.truth

    @property
    def pair(self) -> Pair:
        """The two classes, in order, whichever way round they were confused."""
        return (self.predicted, self.truth) if self.predicted < self.truth else (self.truth, self.predicted)


@dataclass(slots=True)
class LabelBook:
    """The newest labels of a model, by asset, numbered as they came; a later revision takes an earlier one's place.

    One that was taken back stays, without a truth, so that no earlier revision comes back in its stead.
    """

    capacity: int = 2000
    entries: dict[str, Joined] = field(default_factory=dict)
    count: int = 0

    def join(self, label: Labelled, model: str) -> Joined | None:
        """Enter a label; None when it is known already, or no prediction of the champion goes with it."""
        reference = next((p for p in label.predictions if p.model == model and p.role == CHAMPION), None)
        known = self.entries.get(label.asset_id)
        if reference is None or (known is not None and known.revision >= label.revision):
            return None
        origin = known.origin if known is not None and label.origin == OTHER else label.origin
        joined = Joined(
            label.asset_id, label.camera_id, label.captured_at, label.at, label.revision,
            reference.version, reference.class_name, label.class_name, origin, self.count, label.annotator,
        )  # fmt: skip
        self.count += 1
        self.entries.pop(label.asset_id, None)
        self.entries[label.asset_id] = joined
        if len(self.entries) > self.capacity:
            del self.entries[next(iter(self.entries))]
        return joined

    def choose(self, chosen: Callable[[Joined], bool]) -> list[Joined]:
        """The labels that estimate risk (drawn at random, whoever corrected them), those `chosen`, by capture time."""
        found = [e for e in self.entries.values() if e.truth and e.origin in (UNIFORM, DRIFT) and chosen(e)]
        return sorted(found, key=lambda e: (e.captured_at, e.asset_id))


@dataclass(slots=True)
class LabelWatch:
    """Watches the uniform labels of one version: the error as a whole, and each pair of classes that gets confused.

    A pair is far more telling than the whole when two classes change names: it goes from almost never to a large share.
    """

    report: Count = field(default_factory=Count)
    base: Count = field(default_factory=Count)
    base_pairs: dict[Pair, float] = field(default_factory=dict)
    recent: list[Pair | None] = field(default_factory=list)
    error: MixtureDetector | None = None
    adwin: AdwinBank | None = None
    pairs: dict[Pair, MixtureDetector] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    labels: int = 0
    trigger: tuple[str, str] = ("", "")
    aside: list[Pair | None] = field(default_factory=list)

    def baseline(self) -> Count:
        """The error known so far: the held-out report's and the labels' that came before the newest."""
        return self.report.plus(self.base)

    def update(self, joined: Joined, policy: LabelPolicy) -> None:
        """Take a uniform label's first revision."""
        self.labels += 1
        self.classes |= {joined.predicted, joined.truth}
        if self.baseline().labels >= policy.baseline:
            self._feed(joined, policy)
        if self.alarmed():
            self.set_aside(joined)
            return
        self.recent.append(joined.pair if joined.wrong else None)
        if self.baseline().labels < policy.baseline:
            self._believe(1)
        else:
            self._believe(len(self.recent) - self._lag())

    def set_aside(self, joined: Joined) -> None:
        """A label after an alarm, or of an open incident: it counts if that proves harmless, or to have been chance."""
        self.aside.append(joined.pair if joined.wrong else None)
        del self.aside[:-_WAITING]

    def _lag(self) -> int:
        """How many of the newest labels do not count yet, as they may be of a change not seen so far: half of all.

        It depends on nothing that they say: were labels to count while a detector is calm, stretches of luck would be
        believed and others not, and the baseline would be too low.
        """
        known = int(self.base.labels) + len(self.recent)
        return min(max(_GUARD, known // 2), _WAITING)

    def _believe(self, most: int) -> None:
        """The oldest labels that wait count to the baseline. All do at last, whatever they say: were those of bad luck
        left out, the baseline would be too low, and the next bad luck an alarm.
        """
        if most <= 0:
            return
        believed, self.recent = self.recent[:most], self.recent[most:]
        self.base = self.base.plus(Count.of(o is not None for o in believed))
        for outcome in believed:
            if outcome is not None:
                self.base_pairs[outcome] = self.base_pairs.get(outcome, 0) + 1
        if self.error is not None:
            self.error.rebase(self._error_rate())
        for pair, detector in self.pairs.items():
            detector.rebase(self.pair_rate(pair))

    def _fade(self, most: float) -> None:
        """The labels believed so far weigh at most so many."""
        share = min(most / max(self.base.labels, 1.0), 1.0)
        self.base = Count(share * self.base.wrong, share * self.base.labels)
        self.base_pairs = {pair: share * count for pair, count in self.base_pairs.items()}

    def _error_rate(self) -> float:
        """The baseline plus its own uncertainty."""
        count = self.baseline()
        share = (count.wrong + 0.5) / (count.labels + 1.0)
        return share + sqrt(share * (1.0 - share) / (count.labels + 1.0))

    def pair_rate(self, pair: Pair) -> float:
        """How often a pair is confused, plus the uncertainty of that; of two classes all errors are."""
        if len(self.classes) <= 2:
            return self._error_rate()
        weight = self.base.labels + _PAIR_PRIOR
        part = max(_PAIR_SHARE, min(_PAIR_TIMES / self._pair_count(2), 1.0))
        share = (self.base_pairs.get(pair, 0) + _PAIR_PRIOR * part * max(self.baseline().error, 0.02)) / weight
        return share + sqrt(share * (1.0 - share) / weight)

    def _pair_count(self, least: int) -> float:
        """How many pairs the classes seen so far make, were they at least so many."""
        count = max(len(self.classes), least)
        return count * (count - 1) / 2

    def _feed(self, joined: Joined, policy: LabelPolicy) -> None:
        rate = self._error_rate()
        if self.error is None:
            self.error = MixtureDetector(rate, policy.run_length, [min(rate + s, 0.95) for s in _ERROR_STEPS])
            self.adwin = AdwinBank(1, {"delta": policy.adwin_delta})
        wrong = np.array([float(joined.wrong)])
        self.error.update(wrong)
        if self.adwin is not None:
            self.adwin.update(wrong)
        if joined.wrong and joined.pair not in self.pairs:
            self.pairs[joined.pair] = self._new_pair(joined.pair, policy)
        for pair, detector in self.pairs.items():
            detector.update(np.array([float(joined.wrong and joined.pair == pair)]))

    def _new_pair(self, pair: Pair, policy: LabelPolicy) -> MixtureDetector:
        """Starts where it would stand had it seen only misses for long: pairs are kept from their first confusion
        on.
        """
        detector = MixtureDetector(self.pair_rate(pair), policy.run_length * self._pair_count(4), _PAIR_RATES)
        detector.sums = detector.miss / (1.0 - detector.miss)
        return detector

    def alarmed_pairs(self) -> list[Pair]:
        """Pairs confused more often than before, in order."""
        return sorted(pair for pair, detector in self.pairs.items() if detector.alarmed()[0])

    def suspects(self) -> set[Pair]:
        """The pairs behind an alarm; the most suspicious one when no pair alarmed by itself."""
        alarmed = self.alarmed_pairs()
        if alarmed or not self.pairs:
            return set(alarmed)
        return {max(self.pairs, key=lambda p: (float(self.pairs[p].statistic()[0]), p))}

    def worse(self) -> bool:
        """Whether ADWIN found a change and it was for the worse."""
        if self.adwin is None or not self.adwin.alarmed()[0] or not self.recent:
            return False
        return Count.of(o is not None for o in self.recent).error > self.baseline().error

    def alarmed(self) -> bool:
        """Whether the labelled error, or a pair of classes, got worse."""
        return (self.error is not None and bool(self.error.alarmed()[0])) or bool(self.alarmed_pairs()) or self.worse()

    def believed(self, run_length: float) -> bool:
        """Whether an alarm is beyond what chance shows once in so many labels; ADWIN's has no run length, and is."""
        least = max(run_length / self.error.run_length, 1.0) if self.error is not None else 1.0
        return self.worse() or any(d.peak >= least * d.run_length for d in self._alarmed())

    def is_calm(self) -> bool:
        """Whether the labels since an alarm speak ten to one against it."""
        return not self.worse() and all(float(d.statistic()[0]) * _CALM <= d.run_length for d in self._alarmed())

    def _alarmed(self) -> list[MixtureDetector]:
        known = [*([self.error] if self.error is not None else []), *self.pairs.values()]
        return [detector for detector in known if detector.alarmed()[0]]

    def forget(self) -> None:
        """An alarm was chance: begin counting anew. All labels count, also those of bad luck."""
        self.recent += self.aside
        self._believe(len(self.recent))
        self._restart()

    def forgive(self, harmless: bool) -> None:
        """The alarm was answered: begin counting anew. Where it proved `harmless`, labels that wait are normal, and
        weigh as much as all before them: an error that rose a little and may stay there alarms once. Where they may be
        of a change they are forgotten.
        """
        if harmless:
            self.recent += self.aside
            self._fade(len(self.recent))
            self._believe(len(self.recent))
        self._restart()

    def _restart(self) -> None:
        self.pairs.clear()
        self.recent.clear()
        self.aside.clear()
        self.trigger = ("", "")
        for detector in (self.error, self.adwin):
            if detector is not None:
                detector.reset()


def change_point(entries: list[Joined], telling: Callable[[Joined], bool]) -> float:
    """Capture time of the first `telling` label after the split that separates few of them from many best, 0
    without one.

    `entries` are ordered by capture time; the split maximises the Bernoulli likelihood on both sides.
    """
    flags = np.array([telling(e) for e in entries], dtype=np.float64)
    n, total = len(flags), flags.sum()
    if n < 4 or total == 0:
        return 0.0
    before = np.concatenate([[0.0], np.cumsum(flags)[:-1]])
    size = np.arange(n, dtype=np.float64)
    after, rest = total - before, n - size
    gain = _likelihood(before, size) + _likelihood(after, rest)
    gain[before / np.maximum(size, 1) > after / rest] = -np.inf
    split = int(np.argmax(gain))
    return next(e.captured_at for e, f in zip(entries[split:], flags[split:], strict=True) if f)


def _likelihood(hits: Vector, size: Vector) -> Vector:
    with np.errstate(all="ignore"):
        share = hits / np.maximum(size, 1.0)
        value = hits * np.log(share) + (size - hits) * np.log(1.0 - share)
    return np.where((hits == 0) | (hits == size), 0.0, value)


def affected_pairs(entries: Iterable[Joined], watch: LabelWatch) -> list[Pair]:
    """Pairs of classes confused in `entries` far more often than before: at least 3 times and 4 deviations above."""
    listed = list(entries)
    counts: dict[Pair, int] = {}
    for entry in listed:
        if entry.wrong:
            counts[entry.pair] = counts.get(entry.pair, 0) + 1
    found = []
    for pair, hits in sorted(counts.items()):
        expected = watch.pair_rate(pair) * len(listed)
        if hits >= 3 and hits - expected > 4.0 * sqrt(expected + 0.25):
            found.append(pair)
    return found


def swapped_pairs(entries: Iterable[Joined]) -> list[Pair]:
    """Pairs whose classes have changed places: most labels of either were predicted as the other.

    A picture that got worse confuses classes too, but sends both the same way.
    """
    seen: dict[str, dict[str, int]] = {}
    for entry in entries:
        row = seen.setdefault(entry.truth, {})
        row[entry.predicted] = row.get(entry.predicted, 0) + 1

    def goes(truth: str, predicted: str) -> bool:
        row = seen.get(truth, {})
        return row.get(predicted, 0) >= 2 and row[predicted] > 0.5 * sum(row.values())

    pairs = [(a, b) for a in sorted(seen) for b in sorted(seen) if a < b and goes(a, b) and goes(b, a)]
    return [(a, b) for a, b in pairs if seen[a][b] + seen[b][a] >= 6]
