"""What is asked of people by a blind probe, what they answer, and what an incident says of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ProbeVerdict(IntEnum):
    """What old answers say once they are given again; the numbers are those of the contract."""

    ASKED = 1
    MOVED = 2
    STANDS = 3
    UNDECIDED = 4


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Old assets are to be answered again: of `cameras`, answered before `answered_before` (when the change is believed
    to have begun), most of them of `class_names`. Answers after `until` are not waited for. Seconds since 1970.
    """

    at: float
    traceparent: str
    id: str
    model: str
    version: str
    incident_id: str
    class_names: tuple[str, ...]
    cameras: tuple[str, ...]
    answered_before: float
    assets: int
    until: float


@dataclass(frozen=True, slots=True)
class Reread:
    """An old asset was answered again; a higher revision takes the place of a lower one. `propensity` (0..1) is the
    probability with which the asset was drawn among the old ones of its class.
    """

    at: float
    ce_id: str
    traceparent: str
    model: str
    probe_id: str
    asset_id: str
    class_before: str
    class_now: str
    annotator_before: str
    annotator_now: str
    propensity: float
    revision: int = 1

    @property
    def changed(self) -> bool:
        """Whether it is answered otherwise than before."""
        return self.class_now != self.class_before


@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """No more answers come: `reason` is answered, no_assets, expired or not_wanted; the counts are of assets."""

    at: float
    ce_id: str
    traceparent: str
    model: str
    probe_id: str
    reason: str
    drawn: int
    answered: int
    skipped: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class ProbeWord:
    """A probe as its incident tells of it: how many assets of the suspected classes and of others were answered again,
    how many of them otherwise than before, and who answers otherwise than everybody else (their answers are left out of
    the counts).
    """

    id: str
    verdict: ProbeVerdict
    suspected: int
    suspected_changed: int
    others: int
    others_changed: int
    annotator: str
    why: str
    asked_at: float
    until: float
