"""What River's detectors have in common here: one object a stream, kept in snapshots as a pickle with River's
version.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from importlib.metadata import version
from inspect import signature
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np

from services.monitor.domain.detectors.protocol import LABELS, Flags, Vector

_VERSION: Final = version("river")


class RiverDetector(Protocol):
    """The part of `river.base.DriftDetector` that is used."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last update found a drift."""

    def update(self, x: float) -> object:
        """Take the next value."""


class RiverBank:
    """One River detector a stream.

    River's objects reset themselves on the update after an alarm, so the alarm is remembered here. A snapshot from
    another version of River is not unpickled: the detectors begin anew and are fed the last `MEMORY` values again.
    """

    name: str
    fits: ClassVar[tuple[str, ...]] = (LABELS,)
    told: ClassVar[tuple[str, ...]] = ()
    MEMORY: ClassVar[int] = 256

    def __init__(self, width: int, options: Mapping[str, float]) -> None:
        """`options` are the detector's own, by River's names."""
        self.width = width
        self.options = dict(options)
        self.reset()

    @classmethod
    def make(cls, width: int, options: Mapping[str, float]) -> Self:
        """Options are River's; their defaults are, too. Raises ValueError for one that River's class does not have."""
        if unknown := sorted(set(options) - set(signature(cls.maker()).parameters)):
            known = ", ".join(sorted(signature(cls.maker()).parameters))
            raise ValueError(f"detector {cls.name!r} has no option {unknown[0]!r}; it has {known}")
        return cls(width, options)

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class; each file gives its own."""
        raise TypeError(f"{cls.__name__} names no detector of River's")

    def reset(self) -> None:
        """Begin anew."""
        self.parts = [self.maker()(**self.options) for _ in range(self.width)]
        self.fired = np.zeros(self.width, dtype=np.bool_)
        self.recent: list[Vector] = []

    def update(self, values: Vector) -> None:
        """Take the next value of each stream."""
        self.recent = [*self.recent[1 - self.MEMORY :], np.array(values, dtype=np.float64)]
        self._feed(values)

    def _feed(self, values: Vector) -> None:
        for i, value in enumerate(values):
            if not np.isnan(value):
                self.parts[i].update(float(value))
                self.fired[i] |= self.parts[i].drift_detected

    def statistic(self) -> Vector:
        """River's detectors show no common statistic: 1 once alarmed, else 0."""
        return self.fired.astype(np.float64)

    def threshold(self) -> Vector:
        """1 for each stream, to go with `statistic`."""
        return np.ones(self.width)

    def alarmed(self) -> Flags:
        """Streams in which River found a drift."""
        return self.fired

    def dump(self) -> dict[str, Any]:
        """The pickle, the version it is good for, and what to do without it."""
        return {
            "width": self.width,
            "options": self.options,
            "fired": self.fired,
            "recent": np.array(self.recent).reshape(len(self.recent), self.width),
            "version": _VERSION,
            "pickle": pickle.dumps(self.parts, protocol=5),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """From `dump`; the pickle is our own snapshot's, never somebody else's."""
        bank = cls(state["width"], state["options"])
        recent = [np.array(row) for row in state["recent"]]
        if state["version"] == _VERSION:
            bank.parts = pickle.loads(state["pickle"])
        else:
            for row in recent:
                bank._feed(row)
        bank.fired, bank.recent = state["fired"], recent
        return bank
