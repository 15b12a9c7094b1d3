"""Labels joined to predictions, and the watch over the labelled error of one model version."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from math import isnan, sqrt
from typing import TypeAlias

import numpy as np

from services.monitor.domain.detectors.adwin import AdwinBank
from services.monitor.domain.detectors.mixture import MixtureDetector
from services.monitor.domain.detectors.protocol import Basing, Detector, Vector
from services.monitor.domain.inputs import CHAMPION, DRIFT, OTHER, UNIFORM, Labelled
from services.monitor.domain.policy import LabelPolicy
from services.monitor.domain.risk import Count

_GUARD = 40  # The newest labels do not count to the baseline yet: they may be of a change not seen so far.
_WAITING = 2_000  # At most so many labels wait until it is known whether they are normal.
_CALM = 10.0
_PAIR_PRIOR = 40.0  # How many labels' worth we believe a pair of classes to be confused as often as ...
_PAIR_SHARE = 0.1  # ... this share of all errors, ...
_PAIR_TIMES = 4.5  # ... and at least so many times the mean pair's: with two classes, all errors are one pair's.
_PAIR_RATES = (0.05, 0.1, 0.2, 0.4)

_PAST = 64  # Forgotten labels are counted so many together, ...
_PASTS = 400  # ... and at most so many times so many.

Pair = tuple[str, str]
Outcome: TypeAlias = Pair | float | None
"""The two classes that were confused, or a detector's loss on a frame, above 0 and at most 1; None: it was right."""


def cost(outcome: Outcome) -> float:
    """0..1."""
    return outcome if isinstance(outcome, float) else float(outcome is not None)


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
    loss: float | None = None
    """A detector's on this frame, 0..1; None for a classifier."""
    first: int = -1
    """The number of the asset's first label; -1 where it was heard before this was kept."""
    features: tuple[float, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether label and prediction differ; of a detector in any box."""
        return self.predicted != self.truth if self.loss is None else self.loss > 0.0

    @property
    def cost(self) -> float:
        """0..1: how wrong it is."""
        return float(self.wrong) if self.loss is None else self.loss

    @property
    def confused(self) -> bool:
        """Whether a classifier took one class for another."""
        return self.loss is None and self.wrong

    @property
    def outcome(self) -> Outcome:
        """What the watch over errors hears of it."""
        if not self.wrong:
            return None
        return self.pair if self.loss is None else self.loss

    @property
    def pair(self) -> Pair:
        """The two classes, in order, whichever way round they were confused."""
        return (self.predicted, self.truth) if self.predicted < self.truth else (self.truth, self.predicted)


@dataclass(slots=True)
class Past:
    """Uniform labels of one version that are no longer kept one by one; all were captured up to `until`."""

    version: str
    until: float
    count: Count

    def stamp(self) -> tuple[str, float, float, float]:
        """Another one whenever a label was added."""
        return self.version, self.until, self.count.wrong, self.count.labels


@dataclass(slots=True)
class LabelBook:
    """The newest labels of a model, by asset, numbered as they came; a later revision takes an earlier one's place.

    One that was taken back stays, without a truth, so that no earlier revision comes back in its stead. Of older ones
    it is still known how many were wrong: an incident may stay open until more labels have come than are kept.
    """

    capacity: int = 2000
    entries: dict[str, Joined] = field(default_factory=dict)
    count: int = 0
    past: list[Past] = field(default_factory=list)

    def join(self, label: Labelled, model: str) -> Joined | None:
        """Enter a label; None when it is known already, or no prediction of the champion goes with it."""
        reference = next((p for p in label.predictions if p.model == model and p.role == CHAMPION), None)
        known = self.entries.get(label.asset_id)
        if reference is None or (known is not None and known.revision >= label.revision):
            return None
        origin = known.origin if known is not None and label.origin == OTHER else label.origin
        unknown = reference.loss is not None and isnan(reference.loss)
        joined = Joined(
            label.asset_id, label.camera_id, label.captured_at, label.at, label.revision,
            reference.version, reference.class_name, "" if unknown else label.class_name, origin, self.count,
            label.annotator, None if unknown else reference.loss, self.count if known is None else known.first,
            reference.features,
        )  # fmt: skip
        self.count += 1
        self.entries.pop(label.asset_id, None)
        self.entries[label.asset_id] = joined
        if len(self.entries) > self.capacity:
            self._forget(self.entries.pop(next(iter(self.entries))))
        return joined

    def _forget(self, old: Joined) -> None:
        if not old.truth or old.origin != UNIFORM:
            return
        newest = self.past[-1] if self.past else None
        if newest is None or newest.version != old.version or newest.count.labels >= _PAST:
            newest = Past(old.version, 0.0, Count())
            self.past = [*self.past[1 - _PASTS :], newest]
        newest.until = max(newest.until, old.captured_at)
        newest.count = newest.count.plus(Count.of([old.cost]))

    def before(self, version: str, since: float, until: float, doubted: Container[str]) -> Count:
        """Uniform labels of a version captured in [since, until); of those no longer kept only whole groups before
        `until`, and only when `since` is 0.
        """
        chosen = self.choose(
            lambda e: (
                e.version == version
                and e.origin == UNIFORM
                and since <= e.captured_at < until
                and e.annotator not in doubted
            )
        )
        found = Count.of(e.cost for e in chosen)
        return found if since else found.plus(self.forgotten(version, until))

    def forgotten(self, version: str, until: float) -> Count:
        """Uniform labels of a version that are no longer kept one by one, in whole groups captured before `until`."""
        found = Count()
        for past in self.past:
            if past.version == version and past.until < until:
                found = found.plus(past.count)
        return found

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
    recent: list[Outcome] = field(default_factory=list)
    error: Detector | None = None
    chosen: str = ""
    """The policy's words for `error`; where it names another one, that takes its place."""
    adwin: AdwinBank | None = None
    pairs: dict[Pair, MixtureDetector] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    labels: int = 0
    trigger: tuple[str, str] = ("", "")
    aside: list[Outcome] = field(default_factory=list)

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
        self.recent.append(joined.outcome)
        if self.baseline().labels < policy.baseline:
            self._believe(1)
        else:
            self._believe(len(self.recent) - self._lag())

    def set_aside(self, joined: Joined) -> None:
        """A label after an alarm, or of an open incident: it counts if that proves harmless, or to have been chance."""
        self.aside.append(joined.outcome)
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
        self.base = self.base.plus(Count.of(map(cost, believed)))
        for outcome in believed:
            if isinstance(outcome, tuple):
                self.base_pairs[outcome] = self.base_pairs.get(outcome, 0) + 1
        if isinstance(self.error, Basing):
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
        wrong = np.array([joined.cost])
        self._of_policy(policy).update(wrong)
        if self.adwin is None:
            self.adwin = AdwinBank(1, {"delta": policy.adwin_delta})
        self.adwin.update(wrong)
        if joined.confused and joined.pair not in self.pairs:
            self.pairs[joined.pair] = self._new_pair(joined.pair, policy)
        for pair, detector in self.pairs.items():
            detector.update(np.array([float(joined.confused and joined.pair == pair)]))

    def _of_policy(self, policy: LabelPolicy) -> Detector:
        """The detector that the policy names, a new one where it names another than it did."""
        choice = policy.detector
        if self.error is None or (self.chosen or self.error.name) != str(choice):
            self.error = choice.make(1, {"run_length": policy.run_length, "baseline": self._error_rate()})
        self.chosen = str(choice)
        return self.error

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
        """Whether a detector that hears any change, as ADWIN does, found one, and it was for the worse."""
        heard = (d for d in (self.adwin, self.error) if d is not None and not _is_one_sided(d))
        if not self.recent or not any(bool(d.alarmed()[0]) for d in heard):
            return False
        return Count.of(map(cost, self.recent)).error > self.baseline().error

    def alarmed(self) -> bool:
        """Whether the labelled error, or a pair of classes, got worse."""
        above = self.error is not None and _is_one_sided(self.error) and bool(self.error.alarmed()[0])
        return above or bool(self.alarmed_pairs()) or self.worse()

    def believed(self, run_length: float, policy: LabelPolicy) -> bool:
        """Whether an alarm is beyond what chance shows once in so many labels; one of a detector whose evidence is not
        on the scale of a run length, as ADWIN's, is.
        """
        least = max(run_length / policy.run_length, 1.0)
        return self._heard_otherwise() or any(d.peak >= least * d.run_length for d in self._alarmed())

    def is_calm(self) -> bool:
        """Whether the labels since an alarm speak ten to one against it."""
        calm = all(float(d.statistic()[0]) * _CALM <= d.run_length for d in self._alarmed())
        return calm and not self._heard_otherwise()

    def _heard_otherwise(self) -> bool:
        """Whether a detector alarmed that is no e-detector."""
        error = self.error
        own = error is not None and not isinstance(error, MixtureDetector) and _is_one_sided(error)
        return self.worse() or (own and error is not None and bool(error.alarmed()[0]))

    def _alarmed(self) -> list[MixtureDetector]:
        known = [self.error, *self.pairs.values()]
        return [d for d in known if isinstance(d, MixtureDetector) and d.alarmed()[0]]

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


def _is_one_sided(detector: Detector) -> bool:
    """Whether it alarms for a rate above the baseline alone."""
    return "baseline" in detector.told


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
        if entry.confused:
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
    for entry in (entry for entry in entries if entry.loss is None):
        row = seen.setdefault(entry.truth, {})
        row[entry.predicted] = row.get(entry.predicted, 0) + 1

    def goes(truth: str, predicted: str) -> bool:
        row = seen.get(truth, {})
        return row.get(predicted, 0) >= 2 and row[predicted] > 0.5 * sum(row.values())

    pairs = [(a, b) for a in sorted(seen) for b in sorted(seen) if a < b and goes(a, b) and goes(b, a)]
    return [(a, b) for a, b in pairs if seen[a][b] + seen[b][a] >= 6]
