"""A label as the metrics hear it, and what is kept of an asset: the newest word about it, and what was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Final

from services.monitor.domain.quality.boxes import Boxes, match

NO_BOXES: Final = Boxes()
UNKNOWN: Final = ""
"""The truth of an asset whose label was withdrawn, or cannot be compared with one class for the whole image."""


@dataclass(frozen=True, slots=True)
class Said:
    """A prediction on an asset; `score` is the calibrated probability of `class_name`, 0..1; no class: no answer.

    A detector's has `found`, and the `threshold` from which on detections are its answer; `class_name` is then empty.
    """

    model: str
    version: str
    role: str
    class_name: str
    score: float
    found: Boxes | None = None
    threshold: float = 0.0

    @classmethod
    def of(
        cls,
        model: str,
        version: str,
        role: str,
        class_name: str,
        score: float,
        found: Boxes | None = None,
        threshold: float = 0.0,
    ) -> Said:
        """With names that are stored once: they are the same for many predictions."""
        return cls(intern(model), intern(version), intern(role), intern(class_name), score, found, threshold)

    def order(self) -> tuple[str, str, str, str, float, Boxes, float]:
        """What two of them are compared by."""
        said = (self.model, self.version, self.role, self.class_name, self.score)
        return *said, self.found or NO_BOXES, self.threshold


@dataclass(frozen=True, slots=True)
class Truth:
    """One revision of an asset's label. Times are microseconds since 1970: `given_at` of the label, `captured_at` of
    the frame. `propensity` is the probability, 0..1, of a uniform random draw; 0 when the label was not drawn so, or
    the probability is not known. `said` holds predictions by their ids. `boxes` are all that people drew, none where
    they found nothing to draw; None where the label does not tell.
    """

    asset_id: str
    camera_id: str
    captured_at: int
    given_at: int
    revision: int
    class_name: str
    propensity: float = 0.0
    said: Mapping[str, Said] = field(default_factory=dict)
    boxes: Boxes | None = None

    def order(self) -> tuple[int, str, bool, Boxes]:
        """What two of them are compared by: the higher revision is the newer word."""
        return self.revision, self.class_name, self.boxes is not None, self.boxes or NO_BOXES


@dataclass(slots=True)
class Entry:
    """All that is known of an asset. Merging revisions is commutative, associative and idempotent: whatever order they
    are heard in, and however often, the entry is the same. `matched` tells, for each detector's prediction, which
    detections are right: it follows from the rest, and is kept since it takes long.
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
    boxes: Boxes | None = None
    matched: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, truth: Truth) -> Entry:
        """From the first revision that is heard of an asset."""
        entry = cls(truth.asset_id, truth.camera_id, truth.captured_at, truth.revision, truth.class_name)
        entry.boxes = truth.boxes
        entry.merge(truth)
        return entry

    def merge(self, truth: Truth) -> bool:
        """Take in a revision; whether it said anything new.

        The highest revision tells the truth, the lowest one that was drawn tells the draw: a correction does not change
        how the asset came to be looked at.
        """
        before = self._word()
        self.disputed = self.disputed or (truth.class_name, truth.boxes) != (self.class_name, self.boxes)
        if truth.order() > (self.revision, self.class_name, self.boxes is not None, self.boxes or NO_BOXES):
            self.revision, self.class_name, self.boxes = truth.revision, truth.class_name, truth.boxes
            self.camera_id, self.captured_at = truth.camera_id, truth.captured_at
        draw = (truth.revision, truth.propensity)
        if truth.propensity > 0.0 and (not self.drawn_in or draw < (self.drawn_in, self.propensity)):
            self.drawn_in, self.propensity = draw
        joined = [self._join(key, said) for key, said in truth.said.items()]
        news = any(joined) or before != self._word()
        if news:
            self._match()
        return news

    def _word(self) -> tuple[object, ...]:
        return self.revision, self.class_name, self.boxes, self.disputed, self.drawn_in, self.propensity

    def _match(self) -> None:
        drawn = self.boxes
        self.matched = {
            key: match(drawn, said.found)
            for key, said in self.said.items()
            if drawn is not None and said.found is not None
        }

    def known(self) -> bool:
        """Whether the label tells what a prediction is compared with."""
        return self.class_name != UNKNOWN or bool(self.matched)

    def _join(self, key: str, said: Said) -> bool:
        """Take in a prediction. One id means one prediction; should it not, the greater one stands, in any order."""
        known = self.said.get(key)
        if known is not None and said.order() <= known.order():
            return False
        self.said[key] = said
        return True
