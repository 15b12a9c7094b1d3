"""A blind probe: old assets are answered again by people who cannot tell, and which old assets are drawn for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from services.labeling.domain.drawing import near_group, unit
from services.labeling.domain.model import Annotation, Micros

OTHERS: Final = 0.4
"""Share of the assets that are of classes which nobody suspects: they tell how often people answer otherwise anyway."""


class ProbeEnd(IntEnum):
    """Why no more answers are waited for; the numbers are the contract's."""

    ANSWERED = 1
    NO_ASSETS = 2
    EXPIRED = 3
    NOT_WANTED = 4


@dataclass(frozen=True, slots=True)
class Probe:
    """What monitor asked for, and what became of it. `annotators` are those whose old answers could be drawn."""

    id: str
    model: str
    incident_id: str
    class_names: tuple[str, ...]
    cameras: tuple[str, ...]
    answered_before: Micros
    assets: int
    requested_at: Micros
    until: Micros
    drawn: int = 0
    annotators: tuple[str, ...] = ()
    ended: ProbeEnd | None = None

    def may_ask(self, who: str, answered_before_by: str, now: Micros) -> bool:
        """Whether a person may be handed an asset that somebody answered before: nobody is asked about their own
        answer, unless nobody else is there.
        """
        return now < self.until and (who != answered_before_by or self._nobody_else(who, now))

    def most_for(self, who: str, now: Micros) -> int:
        """How many of its assets a person is handed: half of them, unless nobody else is there. What one person alone
        says cannot be told from that person.
        """
        return self.drawn if self._nobody_else(who, now) else -(-self.drawn // 2)

    def _nobody_else(self, who: str, now: Micros) -> bool:
        """Nobody else has answered before, or nobody else came in half of the time."""
        return set(self.annotators) <= {who} or 2 * now >= self.requested_at + self.until


@dataclass(frozen=True, slots=True)
class Reading:
    """An asset of a probe: how it was read before and, from `revision` 1 on, how it is read now."""

    task_id: str
    probe_id: str
    asset_id: str
    camera_id: str
    captured_at: Micros
    class_before: str
    annotated_before_by: str
    annotated_before_at: Micros
    propensity: float
    class_now: str = ""
    annotated_now_by: str = ""
    annotated_now_at: Micros = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """How the assets of a probe ended."""

    answered: int
    skipped: int
    deleted: int


def draw_old(probe: Probe, candidates: Sequence[Annotation]) -> list[tuple[Annotation, float]]:
    """At most `probe.assets` of the old annotations, with their inclusion probabilities; none when no suspected class
    is among them.

    Three fifths are of the suspected classes, more where there are few others to compare them with; each part is spread
    over its classes. Within a class chance decides, by the asset's own number, and of near frames only one is taken.
    """
    suspected = [one for one in candidates if one.class_name in probe.class_names]
    others = [one for one in candidates if one.class_name not in probe.class_names]
    if not suspected:
        return []
    compared = _spread(probe, others, int(OTHERS * probe.assets))
    return _spread(probe, suspected, probe.assets - len(compared)) + compared


def _spread(probe: Probe, candidates: Sequence[Annotation], wanted: int) -> list[tuple[Annotation, float]]:
    """As many of each class as there can be: the smallest class first, the others share what it leaves."""
    classes: dict[str, list[Annotation]] = {}
    for one in candidates:
        classes.setdefault(one.class_name, []).append(one)
    drawn: list[tuple[Annotation, float]] = []
    left = wanted
    shuffled = sorted((len(apart := _apart(probe, of)), name, apart, len(of)) for name, of in classes.items())
    for place, (_, _, apart, all_of_class) in enumerate(shuffled):
        taken = apart[: -(-left // (len(shuffled) - place))]
        drawn += [(one, len(taken) / all_of_class) for one in taken]
        left -= len(taken)
    return drawn


def _apart(probe: Probe, candidates: Iterable[Annotation]) -> list[Annotation]:
    """In random order, without frames near to one before."""
    known: set[str] = set()
    found = []
    for one in sorted(candidates, key=lambda one: unit(f"probe/{probe.id}", one.asset.id)):
        group = near_group(one.asset.camera_id, one.asset.captured_at)
        if group not in known:
            known.add(group)
            found.append(one)
    return found
