"""A label as the metrics hear it, and what is kept of an asset: the newest word about it, and what was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Final

UNKNOWN: Final = ""
"""The truth of an asset whose label was withdrawn, or cannot be compared with one class for the whole image."""


@dataclass(frozen=True, slots=True)
class Said:
    """A prediction on an asset; `score` is the calibrated probability of `class_name`, 0..1; no class: no answer."""

    model: str
    version: str
    role: str
    class_name: str
    score: float

    @classmethod
    def of(cls, model: str, version: str, role: str, class_name: str, score: float) -> Said:
        """With names that are stored once: they are the same for many predictions."""
        return cls(intern(model), intern(version), intern(role), intern(class_name), score)

    def order(self) -> tuple[str, str, str, str, float]:
        """What two of them are compared by."""
        return self.model, self.version, self.role, self.class_name, self.score


@dataclass(frozen=True, slots=True)
class Truth:
    """One revision of an asset's label. Times are microseconds since 1970: `given_at` of the label, `captured_at` of
    the frame. `propensity` is the probability, 0..1, of a uniform random draw; 0 when the label was not drawn so, or
    the probability is not known. `said` holds predictions by their ids.
    """

    asset_id: str
    camera_id: str
    captured_at: int
    given_at: int
    revision: int
    class_name: str
    propensity: float = 0.0
    said: Mapping[str, Said] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """All that is known of an asset. Merging revisions is commutative, associative and idempotent: whatever order they
    are heard in, and however often, the entry is the same.
    """

    asset_id: str
    camera_id: str
    captured_at: int
    revision: int
    class_name: str
    disputed: bool = False
    drawn_in: int = 0
    propensity: float = 0.0
    said: dict[str, Said] = field(default_factory=dict)

    @classmethod
    def of(cls, truth: Truth) -> Entry:
        """From the first revision that is heard of an asset."""
        entry = cls(truth.asset_id, truth.camera_id, truth.captured_at, truth.revision, truth.class_name)
        entry.merge(truth)
        return entry

    def merge(self, truth: Truth) -> bool:
        """Take in a revision; whether it said anything new.

        The highest revision tells the truth, the lowest one that was drawn tells the draw: a correction does not change
        how the asset came to be looked at.
        """
        before = (self.revision, self.class_name, self.disputed, self.drawn_in, self.propensity)
        self.disputed = self.disputed or truth.class_name != self.class_name
        if (truth.revision, truth.class_name) > (self.revision, self.class_name):
            self.revision, self.class_name = truth.revision, truth.class_name
            self.camera_id, self.captured_at = truth.camera_id, truth.captured_at
        draw = (truth.revision, truth.propensity)
        if truth.propensity > 0.0 and (not self.drawn_in or draw < (self.drawn_in, self.propensity)):
            self.drawn_in, self.propensity = draw
        joined = [self._join(key, said) for key, said in truth.said.items()]
        return any(joined) or before != (
            self.revision, self.class_name, self.disputed, self.drawn_in, self.propensity,
        )  # fmt: skip

    def _join(self, key: str, said: Said) -> bool:
        """Take in a prediction. One id means one prediction; should it not, the greater one stands, in any order."""
        known = self.said.get(key)
        if known is not None and said.order() <= known.order():
            return False
        self.said[key] = said
        return True
