"""One camera under one model version: its reference, its channels, and how sure it is that something moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain import batch_test
from services.monitor.domain.anchor import Anchor
from services.monitor.domain.arming import bounds, rounded
from services.monitor.domain.channels import PIXELS, WIDTH
from services.monitor.domain.detectors.cusum import CusumBank
from services.monitor.domain.detectors.protocol import Arming, Detector, Vector
from services.monitor.domain.events import Evidence, State
from services.monitor.domain.policy import Policy
from services.monitor.domain.pooling import Known, Pool
from services.monitor.domain.profile import DAY, DAYS, Profile
from services.monitor.domain.reference import Reference, learn, learn_from_few, moments
from services.monitor.domain.runlength import block_deviation, correlation_time
from services.monitor.domain.trace import Trace

_SIGHTS = 24  # Blocks of which a frame is remembered: a slow change is noticed after it has begun.
_GUARD = 8  # Blocks that must have passed quietly before an older one may refine the reference.
_DOUBTFUL = 2  # Stretches before an alarm that may have raised it, and are of neither kind.
_LEVELS = 24  # Blocks of an alarm whose pixels are remembered as they are.
_WITHIN = 6  # Times in a stretch over which an expected mean is taken.


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a camera that learns need not learn from nothing: what the version's other cameras have in common, and what
    its own pixels were like under the version before.
    """

    pool: Pool | None = None
    anchor: Anchor | None = None


@dataclass(slots=True)
class CameraWatch:
    """Frames come in one by one and are judged a block at a time."""

    camera_id: str
    frames: int = 0
    state: State = State.LEARNING
    block: int = 0
    filled: int = 0
    rows: Vector = field(default_factory=lambda: np.zeros((64, WIDTH)))
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(64, dtype=np.int64))
    reference: Reference | None = None
    bank: Detector | None = None
    chosen: str = ""
    """The policy's words for `bank`; where it names another one, that takes its place."""
    gate: CusumBank | None = None
    """Where `bank` tells nothing before it alarms: what decides whether a block is quiet enough to learn from."""
    warn: Vector = field(default_factory=lambda: np.empty(0))
    quiet_frames: int = 0
    trace: Trace = field(default_factory=Trace)
    last_at: float = 0.0
    learning_since: float = 0.0
    trigger: tuple[str, str] = ("", "")
    sights: list[tuple[float, str]] = field(default_factory=list)
    armed_for: float = -1.0
    profile: Profile | None = None
    calm: list[tuple[float, Vector, Vector]] = field(default_factory=list)
    alarmed_at: float = 0.0
    fresh: int = 0
    steps: float = 0.0
    """Frames one would wait for as much evidence were nothing wrong; kept up while it is alarmed."""
    assessed: tuple[int, str] = (0, "")
    """State and incident as others were told last."""
    provisional: bool = False
    """Its reference leans on other cameras, until enough frames of its own have come: they are kept in `rows`."""
    judged: int = 0
    """Of `rows`, so many were judged already."""
    accepted: bool = False
    """What it was like before counts no longer: a change was accepted as normal."""
    displaced: bool = False
    """It was alarmed when its version was replaced: the next one is to learn what it sees."""
    levels: list[tuple[float, Vector]] = field(default_factory=list)
    """While it is alarmed: the newest blocks' ends, and means of the pixel channels in their own units, shape (9,): the
    trace, being clipped, does not tell them.
    """

    def take(
        self,
        at: float,
        features: tuple[float, ...],
        number: int,
        classes: tuple[str, ...],
        policy: Policy,
        beginning: Beginning,
    ) -> bool:
        """Take a frame; True when it completed a block (or the reference), so that the state may have changed."""
        if not self.frames and len(features) != WIDTH:  # A detector's.
            self.rows = np.zeros((64, len(features)))
        if self.filled == len(self.rows):
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            self.numbers = np.concatenate([self.numbers, np.zeros_like(self.numbers)])
        self.rows[self.filled] = features
        self.numbers[self.filled] = number
        self.filled += 1
        self.frames += 1
        self.last_at = at
        self.learning_since = self.learning_since or at
        if self.reference is None:
            return self._learn(classes, policy, beginning) or self._begin_early(policy, beginning)
        if self.filled - self.judged < self.block:
            return False
        self._judge(at, policy)
        if not self.provisional:
            self.filled = 0
        elif self.state >= State.ALARM:  # What comes now is not to be learnt from.
            self.filled, self.judged, self.learning_since = 0, 0, 0.0
        else:
            self.judged = self.filled
            if self.state is State.OK:
                self._learn(classes, policy, beginning)
        return True

    def is_learning(self) -> bool:
        """Whether it still learns what is normal, be it watched already or not."""
        return self.reference is None or self.provisional

    def _learn(self, classes: tuple[str, ...], policy: Policy, beginning: Beginning) -> bool:
        """The reference, once in fifty frames if they are enough."""
        step = 1 if self.reference is None else self.block
        if self.filled < policy.reference.frames or self.filled // 50 == (self.filled - step) // 50:
            return False
        rows, numbers = self.rows[: self.filled].copy(), self.numbers[: self.filled].copy()
        pooled = None if beginning.pool is None else beginning.pool.scale
        reference = learn(rows, numbers, classes, policy.channels, policy.reference, pooled)
        if reference is None:
            return False
        self._begin(reference, rows, numbers, policy, beginning)
        self.provisional, self.filled = False, 0
        self.rows = np.zeros((self.block, rows.shape[1]))
        self.numbers = np.zeros(self.block, dtype=np.int64)
        return True

    def _begin_early(self, policy: Policy, beginning: Beginning) -> bool:
        """A provisional reference, of the features alone, where other cameras tell what few frames cannot."""
        pool, rules = beginning.pool, policy.reference
        if pool is None or self.filled % 10 or not pool.helps(self.filled, rules):
            return False
        rows, numbers = self.rows[: self.filled].copy(), self.numbers[: self.filled].copy()
        reference = learn_from_few(rows, policy.channels, rules, pool.scale)
        pool.lend(reference, rules.pooled)
        if reference.effective() < rules.effective_pooled:
            return False
        self._begin(reference, rows, numbers, policy, beginning)
        self.provisional, self.judged = True, self.filled
        return True

    def _begin(
        self, reference: Reference, rows: Vector, numbers: NDArray[np.int64], policy: Policy, beginning: Beginning
    ) -> None:
        """Be watched from now on."""
        anchor = None if self.accepted else beginning.anchor
        if anchor is not None:
            anchor.hold(reference)
        self.reference, self.bank, self.judged, self.calm = reference, None, 0, []
        size = int(np.ceil(2.0 * correlation_time(reference.rho)))
        self.block = min(max(policy.channels.block, size), policy.channels.block_max)
        self._begin_profile(reference, rows, numbers, beginning.pool)
        if anchor is not None and self.profile is not None:
            anchor.fix(self.profile, reference.held)
        self._arm(policy)
        self.state = State.OK
        self.trace = Trace(generation=self.trace.generation + 1)
        self._remember(rows, numbers)

    def _blocks(self, rows: Vector, numbers: NDArray[np.int64]) -> Iterator[tuple[float, Vector]]:
        """The learning frames in blocks, with the time of each one's end; their times are not kept, so they lie
        evenly.
        """
        assert self.reference is not None
        values = self.reference.standardise(rows, numbers)
        for start in range(0, len(rows) - self.block + 1, self.block):
            share = (start + self.block) / len(rows)
            yield (
                self.learning_since + share * (self.last_at - self.learning_since),
                values[start : start + self.block],
            )

    def _begin_profile(self, reference: Reference, rows: Vector, numbers: NDArray[np.int64], pool: Pool | None) -> None:
        cycle = None if pool is None or pool.cycle is None else pool.cycle.of(reference)
        updates = 0 if self.profile is None else self.profile.updates  # They count on: a snapshot goes by them.
        self.profile = Profile.begin(reference.mean, self.learning_since, cycle)
        self.profile.updates = updates
        for time, part in self._blocks(rows, numbers):
            self._refine(self.profile, time, part.mean(axis=0), len(rows))

    def _refine(self, profile: Profile, at: float, means: Vector, enough: int) -> None:
        assert self.reference is not None
        alike, held = correlation_time(self.reference.rho), self.reference.held
        learnt = np.where(held, np.nan, means) if len(held) else means
        profile.learn(at, learnt, self.block / alike, enough / alike)

    def _remember(self, rows: Vector, numbers: NDArray[np.int64]) -> None:
        """The learning frames are the beginning of the trace."""
        for time, part in self._blocks(rows, numbers):
            self.trace.add(time, self.block, self._score(time, part.mean(axis=0)), part.var(axis=0))

    def _known(self) -> Profile:
        """The profile; a camera out of a snapshot of before there was one goes on from its reference alone."""
        assert self.reference is not None
        if self.profile is None:
            self.profile = Profile.begin(self.reference.mean, self.last_at)
            self.profile.learn(self.last_at, self.reference.mean, self.reference.effective(), np.inf)
        return self.profile

    def _arm(self, policy: Policy) -> None:
        """Thresholds for what is known by now of what to expect at this hour."""
        assert self.reference is not None
        step = block_deviation(self.reference.rho, self.block)
        error = rounded(self._known().error(self.last_at) / step)
        bank = self._bank(policy)
        if error == self.armed_for:
            return
        self.armed_for = error
        found = bounds(self.reference, self.block, policy.channels, error)
        for one in (bank, self.gate):
            if isinstance(one, Arming):
                one.arm(found.allowance, found.limit)
        self.warn = found.warn * bank.threshold()

    def _bank(self, policy: Policy) -> Detector:
        """The detector that the policy names, a new one where it names another than it did."""
        assert self.reference is not None
        choice = policy.channels.detector
        if self.bank is None or (self.chosen or self.bank.name) != str(choice):
            width, told = len(self.reference.active), {"run_length": policy.channels.run_length_alarm / self.block}
            self.bank, self.armed_for = choice.make(width, told), -1.0
            self.gate = None if isinstance(self.bank, Arming) else CusumBank.make(width, told)
        self.chosen = str(choice)
        return self.bank

    def _score(self, at: float, means: Vector) -> Vector:
        assert self.reference is not None
        step = block_deviation(self.reference.rho, self.block)
        scores: Vector = (means - self._known().expected(at)) / (self.reference.spread() * step)
        return np.where(self.reference.active, scores, np.nan)

    def _judge(self, at: float, policy: Policy) -> None:
        assert self.reference is not None and self.bank is not None
        block = slice(self.judged, self.filled)
        values = self.reference.standardise(self.rows[block], self.numbers[block])
        means, spreads = moments(values, self.reference.mean)
        self._arm(policy)
        scores = self._score(at, means)
        self.bank.update(scores)
        if self.gate is not None:
            self.gate.update(scores)
        self.trace.add(at, self.block, scores, spreads)
        self._settle(policy, means, spreads)
        if self.state >= State.ALARM:
            self.levels = [*self.levels[1 - _LEVELS :], (at, self.rows[block, : len(PIXELS)].mean(axis=0))]

    def _settle(self, policy: Policy, means: Vector, spreads: Vector) -> None:
        """OK, WARN or ALARM from the bank; a quiet camera refines its reference, with a delay."""
        assert self.reference is not None and self.bank is not None
        statistic = self.bank.statistic()
        if self.state >= State.ALARM:
            low = bool((statistic < self.bank.threshold() / 2).all())
            self.quiet_frames = self.quiet_frames + self.block if low else 0
            self._confirm()
            return
        if self.bank.alarmed().any():
            self.state, self.alarmed_at, self.fresh = State.ALARM, self.last_at, 0
            self.calm, self.quiet_frames, self.trace.pinned = [], 0, True
            return
        self.state = State.WARN if (statistic >= self.warn).any() else State.OK
        if self.state is State.WARN or not self._is_calm(statistic):
            self.calm = []
            return
        self.calm.append((self.last_at, means, spreads))
        if len(self.calm) > _GUARD:
            self._take_in(*self.calm.pop(0), policy.reference.frames_max)
            self.displaced = False

    def _is_calm(self, statistic: Vector) -> bool:
        """Whether no channel is half way to a WARN."""
        assert self.bank is not None
        if self.gate is None:
            return not (statistic >= self.warn / 2).any()
        return not (self.gate.reach() >= self.warn / self.bank.threshold() / 2).any()

    def _confirm(self) -> None:
        """CONFIRMED, if frames after the alarm differ from those well before it: tested once, on frames that did not
        raise it.
        """
        self.fresh += 1
        if self.fresh != batch_test.BLOCKS * batch_test.FRESH + 1:  # The block after the alarm still resembles it.
            return
        times, size = np.array(self.trace.times), self.block * batch_test.BLOCKS
        means, ends = self.trace.matrix(), np.array(self.trace.frames)
        old = times <= self.alarmed_at
        before = batch_test.stretches(means[old], ends[old].tolist(), size)[:-_DOUBTFUL]
        after = batch_test.stretches(means[~old], ends[~old].tolist(), size)
        if batch_test.p_value(before, after[-batch_test.FRESH :]) <= batch_test.LEVEL:
            self.state = State.CONFIRMED

    def _take_in(self, at: float, means: Vector, spreads: Vector, frames_max: int) -> None:
        """A block that has long been quiet tells more of what is normal."""
        assert self.reference is not None
        profile, held = self._known(), self.reference.held
        if self.reference.frames < frames_max:
            departures = means - profile.expected(at)
            self.reference.grow(np.where(held, np.nan, departures) if len(held) else departures, spreads, self.block)
        self._refine(profile, at, means, frames_max)

    def remember(self, at: float, asset_id: str) -> None:
        """Note the last frame of a block while nothing is wrong: what the camera saw before, should something be."""
        if self.state < State.ALARM:
            self.sights = [*self.sights[1 - _SIGHTS :], (at, asset_id)]

    def clear(self) -> None:
        """The alarm is over: begin counting anew against the same reference."""
        if self.bank is not None:
            self.bank.reset()
            self.state = State.OK
        if self.gate is not None:
            self.gate.reset()
        self.calm, self.quiet_frames, self.trace.pinned, self.levels = [], 0, False, []

    def relearn(self) -> None:
        """What is seen from now on is normal."""
        self.state, self.reference, self.bank, self.armed_for = State.LEARNING, None, None, -1.0
        self.gate, self.profile = None, None
        self.provisional, self.judged, self.accepted = False, 0, True
        self.filled, self.block, self.learning_since = 0, 0, 0.0
        self.rows, self.numbers = np.zeros((64, self.rows.shape[1])), np.zeros(64, dtype=np.int64)
        self.calm, self.quiet_frames, self.levels = [], 0, []
        self.trace = Trace(generation=self.trace.generation + 1)

    def rest(self) -> None:
        """Nobody looks for now: what was seen lately is forgotten, also of a block that is not complete, and an alarm,
        whose incident ends with it.
        """
        if self.reference is not None:
            self.filled = self.judged
        if self.state >= State.ALARM:
            self.clear()
            self.displaced = True
        self.calm, self.trace = [], Trace(generation=self.trace.generation + 1)

    def known(self) -> Known | None:
        """What other cameras can lean on; None while it leans on them."""
        if self.reference is None or self.provisional:
            return None
        return Known(self.reference, self.profile, 0.0 if self.profile is None else self.last_at - self.profile.since)

    def anchor(self) -> Anchor | None:
        """What a later version is held to, where its pixels have long been known and lie quiet."""
        reference, profile = self.reference, self.profile
        if reference is None or profile is None or self.provisional or self.state >= State.ALARM or self.displaced:
            return None
        long_known = bool(reference.held.any()) or self.last_at - profile.since >= DAYS * DAY
        return Anchor(reference, profile) if long_known else None

    def expected(self, at: float, over: float = 0.0) -> tuple[Vector, float]:
        """The standardised means, shape (channels,), of frames spread over `over` seconds about `at` while nothing is
        wrong, and their standard error in deviations of a frame. The camera has a reference.
        """
        profile = self._known()
        times = at + over * (np.arange(_WITHIN) + 0.5 - _WITHIN / 2.0) / _WITHIN if over > 0.0 else np.array([at])
        return np.mean([profile.expected(one) for one in times.tolist()], axis=0), profile.error(at)

    def rate(self) -> float:
        """Frames a second, over what the trace remembers."""
        span = self.trace.times[-1] - self.trace.times[0] if len(self.trace.times) > 1 else 0.0
        return sum(self.trace.frames[1:]) / span if span > 0.0 else 0.0

    def evidence(self, most: int) -> tuple[Evidence, ...]:
        """The channels that moved furthest, furthest first."""
        if self.reference is None or self.bank is None or not self.trace.times:
            return ()
        statistic, blocks = self.bank.statistic(), min(5, len(self.trace.times))
        step = block_deviation(self.reference.rho, self.block)
        shift = self.trace.matrix()[-blocks:].mean(axis=0) * self.reference.deviation * step
        mean = self.reference.centre + self._known().expected(self.last_at) * self.reference.scale
        order = [int(i) for i in np.argsort(-statistic, kind="stable")[:most] if statistic[i] > 0.0]
        return tuple(
            Evidence(
                channel=self.reference.names[i],
                camera_id=self.camera_id,
                detector=self.bank.name,
                statistic=float(statistic[i]),
                threshold=float(self.bank.threshold()[i]),
                reference_mean=float(mean[i]),
                current_mean=float(mean[i] + shift[i] * self.reference.scale[i]),
                shift_sigma=float(shift[i] / self.reference.deviation[i]),
            )
            for i in order
        )
