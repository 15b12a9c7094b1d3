"""Answers a drift: asks people whether it hurts, and lays aside labels that a change of concept has overtaken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.metrics import LABELING_CLOSED, LABELING_SUPERSEDED
from services.labeling.domain.drawing import DrawPolicy, sample
from services.labeling.domain.model import ConceptChange, Draw, Incident, Micros, Origin
from services.labeling.domain.ports import Clock, Ledger, Ledgers
from services.labeling.handlers.asking import CANDIDATES, ask, dataset_for, task_of
from services.labeling.handlers.probes import end_of_incident


@dataclass(frozen=True, slots=True)
class DriftWord:
    """What monitor says about an incident, as far as labeling acts on it.

    `over` when it is closed or known to be harmless; `asking` while it is alarmed and its harm not known;
    `concept_changed` when it is confirmed that the named classes have another meaning since `began_at`; `probe_judged`
    when no more answers of its probe are needed.
    """

    incident_id: str
    model: str
    revision: int
    cameras: tuple[str, ...]
    class_names: tuple[str, ...]
    began_at: Micros
    over: bool
    asking: bool
    concept_changed: bool
    probe_judged: bool = False


@dataclass(frozen=True, slots=True)
class DriftHandlers:
    """Bound to a ledger, a clock and the policy of drawing."""

    ledgers: Ledgers
    clock: Clock
    policy: DrawPolicy

    async def note(self, words: Sequence[DriftWord]) -> None:
        """Take words in order; an older revision than the one known changes nothing."""

        def work(ledger: Ledger) -> None:
            for word in words:
                self._note(ledger, word)

        await self.ledgers.transact(work)

    def _note(self, ledger: Ledger, word: DriftWord) -> None:
        known = ledger.datasets.incident(word.incident_id)
        if known is not None and known.revision >= word.revision:
            return
        drawing = word.asking and not word.over
        drawn = known.drawn if known is not None else 0
        incident = Incident(word.incident_id, word.model, word.revision, word.cameras, word.began_at, drawing, drawn)
        if drawing and (known is None or not known.drawing):
            drawn += self._draw_window(ledger, incident)
        if word.over:
            LABELING_CLOSED.labels("incident_over").inc(ledger.tasks.close_cause(word.incident_id))
        if word.over or word.probe_judged:
            end_of_incident(ledger, word.incident_id, self.clock())
        if word.concept_changed:
            supersede(ledger, word)
        ledger.datasets.put_incident(
            Incident(word.incident_id, word.model, word.revision, word.cameras, word.began_at, drawing, drawn)
        )

    def _draw_window(self, ledger: Ledger, incident: Incident) -> int:
        """Half of what an incident may draw comes from its beginning, half from what arrives later."""
        found = ledger.pool.candidates(incident.model, incident.began_at, CANDIDATES)
        candidates = [one for one in found if not incident.cameras or one.camera_id in incident.cameras]
        wanted = (self.policy.drift_tasks - incident.drawn + 1) // 2
        datasets, now = ledger.datasets.all(), self.clock()
        tasks = []
        for one, propensity in sample(candidates, wanted, f"drift/{incident.id}"):
            dataset = dataset_for(datasets, one)
            if dataset is not None:
                draw = Draw(Origin.DRIFT, propensity)
                tasks.append(task_of(one, draw, dataset.name, incident.id, now))
        return ask(ledger, tasks)


def supersede(ledger: Ledger, word: DriftWord) -> int:
    """Mark the labels that read the classes in the old way, in all datasets that the drifted cameras feed."""
    cameras: set[str] = set()
    for dataset in ledger.datasets.all():
        touched = not word.cameras or any(map(dataset.has_camera, word.cameras))
        if touched and set(word.class_names) <= set(dataset.class_names):
            cameras.update(dataset.cameras)
    patterns = tuple(sorted(cameras)) or word.cameras
    change = ConceptChange(word.incident_id, word.class_names, word.began_at, patterns)
    marked = ledger.annotations.supersede(change)
    LABELING_SUPERSEDED.inc(marked)
    return marked
