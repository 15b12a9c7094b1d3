"""One camera under one model version: its reference, its channels, and how sure it is that something moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, exp, log

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain import batch_test
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.detectors.banks import RIVERS
from services.monitor.domain.detectors.cusum import CusumBank
from services.monitor.domain.detectors.protocol import Detector, Vector
from services.monitor.domain.events import Evidence, State
from services.monitor.domain.policy import Policy
from services.monitor.domain.profile import Profile
from services.monitor.domain.reference import Reference, learn, moments
from services.monitor.domain.runlength import block_deviation, block_inflation, correlation_time, skew_factor, threshold
from services.monitor.domain.trace import Trace

_SIGHTS = 24  # Blocks of which a frame is remembered: a slow change is noticed after it has begun.
_GUARD = 8  # Blocks that must have passed quietly before an older one may refine the reference.
_DOUBTFUL = 2  # Stretches before an alarm that may have raised it, and are of neither kind.
# Two rules: times the policy's allowance, and how many standard errors of what is expected besides. The second finds a
# shift of one deviation of a frame sooner, and one as large as the first rule must take for an error.
ALLOWANCES = np.array([[1.0, 1.0], [2.0, 2.0]])
_WITHIN = 6  # Times in a stretch over which an expected mean is taken.
_GRID = 50.0  # Steps of 2 %: thresholds are looked up, not computed for each block.


def _rounded(error: float) -> float:
    """Up to the next of a few values."""
    return exp(ceil(_GRID * log(max(error, 1e-3))) / _GRID)


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

    def take(
        self,
        at: float,
        features: tuple[float, ...],
        number: int,
        classes: tuple[str, ...],
        policy: Policy,
        pooled: Vector | None,
    ) -> bool:
        """Take a frame; True when it completed a block (or the reference), so that the state may have changed."""
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
            return (
                self.filled >= policy.reference.frames
                and self.filled % 50 == 0
                and self._learn(classes, policy, pooled)
            )
        if self.filled < self.block:
            return False
        self._judge(at, policy)
        return True

    def _learn(self, classes: tuple[str, ...], policy: Policy, pooled: Vector | None) -> bool:
        rows, numbers = self.rows[: self.filled].copy(), self.numbers[: self.filled].copy()
        self.reference = learn(rows, numbers, classes, policy.channels, policy.reference, pooled)
        if self.reference is None:
            return False
        size = int(np.ceil(2.0 * correlation_time(self.reference.rho)))
        self.block = min(max(policy.channels.block, size), policy.channels.block_max)
        self._begin_profile(rows, numbers)
        self._arm(policy)
        self.state = State.OK
        self._remember(rows, numbers)
        self.filled = 0
        self.rows = np.zeros((self.block, WIDTH))
        self.numbers = np.zeros(self.block, dtype=np.int64)
        return True

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

    def _begin_profile(self, rows: Vector, numbers: NDArray[np.int64]) -> None:
        assert self.reference is not None
        self.profile = Profile.begin(self.reference.mean, self.learning_since)
        for time, part in self._blocks(rows, numbers):
            self._refine(self.profile, time, part.mean(axis=0), len(rows))

    def _refine(self, profile: Profile, at: float, means: Vector, enough: int) -> None:
        assert self.reference is not None
        alike = correlation_time(self.reference.rho)
        profile.learn(at, means, self.block / alike, enough / alike)

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
        error = _rounded(self._known().error(self.last_at) / step)
        if error == self.armed_for:
            return
        self.armed_for = error
        allowances = ALLOWANCES @ [policy.channels.allowance, error]
        channels = policy.channels
        limits = np.array([self._limit(a, error, channels.run_length_alarm) for a in allowances])
        warnings = np.array([self._limit(a, error, channels.run_length_warn) for a in allowances])
        skew = np.abs(self.reference.skew) * step  # of a block mean
        factors = np.array([[skew_factor(a, one) for one in skew] for a in allowances])
        limit, allowance = limits[:, None] * factors, np.repeat(allowances[:, None], len(skew), axis=1)
        self.warn = float((warnings / limits).max()) * limit[0]
        if self.bank is None:
            river = RIVERS.get(policy.channels.detector)
            self.bank = river(len(skew), {}) if river else CusumBank(allowance, limit)
        if isinstance(self.bank, CusumBank):
            self.bank.arm(allowance, limit)

    def _limit(self, allowance: float, error: float, frames: float) -> float:
        """The threshold at which all channels, both ways and by all rules, alarm once in so many frames together."""
        assert self.reference is not None
        unit = block_inflation(self.reference.rho, self.block)  # What blocks add up by, in their own deviations.
        steps = frames * len(ALLOWANCES) * 2.0 * max(int(self.reference.active.sum()), 1) / self.block
        return unit * threshold(allowance / unit, error / unit, steps)

    def _score(self, at: float, means: Vector) -> Vector:
        assert self.reference is not None
        step = block_deviation(self.reference.rho, self.block)
        scores: Vector = (means - self._known().expected(at)) / (self.reference.spread() * step)
        return np.where(self.reference.active, scores, np.nan)

    def _judge(self, at: float, policy: Policy) -> None:
        assert self.reference is not None and self.bank is not None
        values = self.reference.standardise(self.rows[: self.filled], self.numbers[: self.filled])
        means, spreads = moments(values, self.reference.mean)
        self.filled = 0
        self._arm(policy)
        scores = self._score(at, means)
        self.bank.update(scores)
        self.trace.add(at, self.block, scores, spreads)
        self._settle(policy, means, spreads)

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
        if self.state is State.WARN or (statistic >= self.warn / 2).any():
            self.calm = []
            return
        self.calm.append((self.last_at, means, spreads))
        if len(self.calm) > _GUARD:
            self._take_in(*self.calm.pop(0), policy.reference.frames_max)

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
        profile = self._known()
        if self.reference.frames < frames_max:
            self.reference.grow(means - profile.expected(at), spreads, self.block)
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
        self.calm, self.quiet_frames, self.trace.pinned = [], 0, False

    def relearn(self) -> None:
        """What is seen from now on is normal."""
        self.state, self.reference, self.bank, self.armed_for = State.LEARNING, None, None, -1.0
        self.profile = None
        self.filled, self.block, self.learning_since = 0, 0, 0.0
        self.rows, self.numbers = np.zeros((64, WIDTH)), np.zeros(64, dtype=np.int64)
        self.calm, self.quiet_frames, self.trace = [], 0, Trace()

    def spread(self) -> Vector | None:
        """The channels' spread in their own units, shape (features,), for other cameras to lean on."""
        return None if self.reference is None else self.reference.scale[:WIDTH]

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
