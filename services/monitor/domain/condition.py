"""In which condition a retraining was tried, and whether things still stand so."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

_NOISE = 2.0  # Times the length that two shifts of one condition are apart by chance.


@dataclass(frozen=True, slots=True)
class Condition:
    """A change as one version sees it: `shift` of each channel by name, the mean of its cameras in standard deviations
    of a frame, with the root of its summed squared standard errors; for a change of labels the classes instead.
    """

    version: str
    class_names: tuple[str, ...]
    shift: dict[str, float]
    error: float

    def size(self) -> float:
        """Length of the shift."""
        return sqrt(sum(value**2 for value in self.shift.values()))

    def holds(self, now: Condition, tolerance: float) -> bool:
        """Whether it is still so: the shift moved by no more than that share of its size, as far as noise lets tell."""
        if (self.version, self.class_names) != (now.version, now.class_names):
            return False
        names = sorted({*self.shift, *now.shift})
        apart = sqrt(sum((self.shift.get(name, 0.0) - now.shift.get(name, 0.0)) ** 2 for name in names))
        return apart <= tolerance * self.size() + _NOISE * sqrt(self.error**2 + now.error**2)
