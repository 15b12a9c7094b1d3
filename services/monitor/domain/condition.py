"""In which condition a retraining was tried, or an incident was, and whether things stand so now."""

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

    def is_plain(self) -> bool:
        """Whether there is a change at all: the shift is longer than chance makes one, or classes are named."""
        return bool(self.class_names) or self.size() > _NOISE * self.error

    def holds(self, now: Condition, tolerance: float) -> bool:
        """Whether it is still so: the shift moved by no more than that share of its size, as far as noise lets tell."""
        if not self._is_about(now):
            return False
        return sqrt(self._apart(now)) <= tolerance * self.size() + _NOISE * sqrt(self.error**2 + now.error**2)

    def is_back(self, now: Condition, tolerance: float) -> bool:
        """Whether it is so again: as `holds`, but doubt speaks against it (see `near`)."""
        if not self._is_about(now):
            return False
        return near(self._apart(now), self.error**2 + now.error**2, self.size() ** 2, tolerance)

    def _is_about(self, now: Condition) -> bool:
        return (self.version, self.class_names) == (now.version, now.class_names)

    def _apart(self, now: Condition) -> float:
        """Squared distance."""
        names = sorted({*self.shift, *now.shift})
        return sum((self.shift.get(name, 0.0) - now.shift.get(name, 0.0)) ** 2 for name in names)


def near(apart: float, noise: float, size: float, tolerance: float) -> bool:
    """Whether two places are the same, up to a share `tolerance` of how far they are from a third; all are squared
    lengths, `noise` what chance adds to `apart` on average.

    The distance is taken without what noise adds to it, and only where noise alone is smaller than what counts as the
    same: else nothing is claimed.
    """
    bound = tolerance**2 * size
    return noise <= bound and apart - noise <= bound
