"""One camera under one model version: its reference, its channels, and how sure it is that something moved."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.channels import FEATURES, WIDTH
from services.monitor.domain.detectors.cusum import CusumBank
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import Evidence, State
from services.monitor.domain.policy import Policy
from services.monitor.domain.reference import Reference, learn
from services.monitor.domain.runlength import block_deviation, block_inflation, correlation_time, skew_factor, threshold
from services.monitor.domain.trace import Trace

_GUARD = 8  # Blocks that must have passed quietly before an older one may refine the reference.


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
    bank: CusumBank | None = None
    warn: Vector = field(default_factory=lambda: np.empty(0))
    quiet: list[tuple[Vector, Vector]] = field(default_factory=list)
    quiet_frames: int = 0
    trace: Trace = field(default_factory=Trace)
    last_at: float = 0.0
    learning_since: float = 0.0
    trigger: tuple[str, str] = ("", "")
    armed_for: float = -1.0
    alarmed_at: float = 0.0
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
        self._arm(policy)
        self.state = State.OK
        self._remember(rows, numbers)
        self.filled = 0
        self.rows = np.zeros((self.block, WIDTH))
        self.numbers = np.zeros(self.block, dtype=np.int64)
        return True

    def _remember(self, rows: Vector, numbers: NDArray[np.int64]) -> None:
        """The learning frames are the beginning of the trace; their times are not kept, so they lie evenly."""
        assert self.reference is not None
        values = self.reference.standardise(rows, numbers)
        starts = range(0, len(rows) - self.block + 1, self.block)
        for start in starts:
            part = values[start : start + self.block]
            share = (start + self.block) / len(rows)
            time = self.learning_since + share * (self.last_at - self.learning_since)
            self.trace.add(time, self.block, self._score(part.mean(axis=0)), part.var(axis=0))

    def _arm(self, policy: Policy) -> None:
        """Thresholds for what the reference is worth by now."""
        assert self.reference is not None
        active = max(int(self.reference.active.sum()), 1)
        step = block_deviation(self.reference.rho, self.block)
        error = round(1.0 / (np.sqrt(self.reference.effective()) * step), 2)
        if error == self.armed_for:
            return
        self.armed_for = error
        allowance = policy.channels.allowance + error
        steps = 2.0 * active / self.block
        width = len(self.reference.names)
        unit = block_inflation(self.reference.rho, self.block)  # What blocks add up by, in their own deviations.
        alarm = unit * threshold(allowance / unit, error / unit, policy.channels.run_length_alarm * steps)
        warn = unit * threshold(allowance / unit, error / unit, policy.channels.run_length_warn * steps)
        skew = np.abs(self.reference.skew) * step  # of a block mean
        factor = np.array([skew_factor(allowance, one) for one in skew])
        self.warn = warn * factor
        if self.bank is None:
            self.bank = CusumBank(np.full(width, allowance), alarm * factor)
        self.bank.allowance, self.bank.limit = np.full(width, allowance), alarm * factor

    def _score(self, means: Vector) -> Vector:
        assert self.reference is not None
        step = block_deviation(self.reference.rho, self.block)
        scores: Vector = (means - self.reference.mean) / (self.reference.spread() * step)
        return np.where(self.reference.active, scores, np.nan)

    def _judge(self, at: float, policy: Policy) -> None:
        assert self.reference is not None and self.bank is not None
        values = self.reference.standardise(self.rows[: self.filled], self.numbers[: self.filled])
        with np.errstate(all="ignore"):
            absent = np.isnan(values).all(axis=0)
            values[:, absent] = self.reference.mean[absent]
            means, spreads = np.nanmean(values, axis=0), np.nanvar(values, axis=0)
        means[absent] = np.nan
        self.filled = 0
        scores = self._score(means)
        self.bank.update(scores)
        self.trace.add(at, self.block, np.nan_to_num(scores), spreads)
        self._settle(policy, means, spreads)

    def _settle(self, policy: Policy, means: Vector, spreads: Vector) -> None:
        """OK, WARN or ALARM from the bank; a quiet camera refines its reference, with a delay."""
        assert self.reference is not None and self.bank is not None
        statistic = self.bank.statistic()
        if self.state >= State.ALARM:
            low = bool((statistic < self.bank.limit / 2).all())
            self.quiet_frames = self.quiet_frames + self.block if low else 0
            return
        if self.bank.alarmed().any():
            self.state = State.ALARM
            self.quiet, self.quiet_frames, self.trace.pinned = [], 0, True
            return
        self.state = State.WARN if (statistic >= self.warn).any() else State.OK
        if self.state is State.WARN or (statistic >= self.warn / 2).any():
            self.quiet = []
            return
        self.quiet.append((means, spreads))
        if len(self.quiet) > _GUARD and self.reference.frames < policy.reference.frames_max:
            means, spreads = self.quiet.pop(0)
            self.reference.grow(means, spreads, self.block)
            self._arm(policy)
        del self.quiet[:-_GUARD]

    def clear(self) -> None:
        """The alarm is over: begin counting anew against the same reference."""
        if self.bank is not None:
            self.bank.reset()
            self.state = State.OK
        self.quiet, self.quiet_frames, self.trace.pinned = [], 0, False

    def relearn(self) -> None:
        """What is seen from now on is normal."""
        self.state, self.reference, self.bank, self.armed_for = State.LEARNING, None, None, -1.0
        self.filled, self.block, self.learning_since = 0, 0, 0.0
        self.rows, self.numbers = np.zeros((64, WIDTH)), np.zeros(64, dtype=np.int64)
        self.quiet, self.quiet_frames, self.trace = [], 0, Trace()

    def spread(self) -> Vector | None:
        """The channels' spread in their own units, shape (features,), for other cameras to lean on."""
        return None if self.reference is None else self.reference.scale[:WIDTH]

    def rate(self) -> float:
        """Frames a second, over what the trace remembers."""
        span = self.trace.times[-1] - self.trace.times[0] if len(self.trace.times) > 1 else 0.0
        return sum(self.trace.frames[1:]) / span if span > 0.0 else 0.0

    def fault(self) -> str:
        """What is broken, where the pixels say so plainly; empty otherwise."""
        moved = {e.channel: e for e in self.evidence(len(FEATURES))}
        frozen, flat = moved.get("pixels.frame_difference"), moved.get("pixels.contrast")
        if flat is not None and flat.current_mean < 0.1 * flat.reference_mean:
            return "the picture has no contrast left"
        if frozen is not None and frozen.current_mean < 0.1 * frozen.reference_mean:
            return "the picture stands still"
        return ""

    def evidence(self, most: int) -> tuple[Evidence, ...]:
        """The channels that moved furthest, furthest first."""
        if self.reference is None or self.bank is None or not self.trace.times:
            return ()
        statistic, blocks = self.bank.statistic(), min(5, len(self.trace.times))
        step = block_deviation(self.reference.rho, self.block)
        shift = self.trace.matrix()[-blocks:].mean(axis=0) * self.reference.deviation * step
        mean = self.reference.centre + self.reference.mean * self.reference.scale
        order = [int(i) for i in np.argsort(-statistic, kind="stable")[:most] if statistic[i] > 0.0]
        return tuple(
            Evidence(
                channel=self.reference.names[i],
                camera_id=self.camera_id,
                detector=self.bank.name,
                statistic=float(statistic[i]),
                threshold=float(self.bank.limit[i]),
                reference_mean=float(mean[i]),
                current_mean=float(mean[i] + shift[i] * self.reference.scale[i]),
                shift_sigma=float(shift[i] / self.reference.deviation[i]),
            )
            for i in order
        )
