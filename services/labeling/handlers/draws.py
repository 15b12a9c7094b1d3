"""Draws tasks from predictions as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from services.common.metrics import LABELING_CLOSED
from services.labeling.domain.drawing import (
    DrawPolicy,
    Rate,
    draw_arriving,
    full_probabilities,
    uniform_probability,
    unit,
)
from services.labeling.domain.model import CHAMPION, Dataset, Draw, Incident, Micros, Origin, Prediction, Task
from services.labeling.domain.ports import Clock, Ledger, Ledgers
from services.labeling.handlers.asking import ask, dataset_for, task_of


@dataclass(slots=True)
class DrawHandlers:
    """Bound to a ledger, a clock and the policy of drawing; `on_requests` is called when open requests may go on."""

    ledgers: Ledgers
    clock: Clock
    policy: DrawPolicy
    on_requests: Callable[[], None]
    rate: Rate = field(default_factory=Rate)

    async def draw(self, predictions: Sequence[Prediction]) -> int:
        """Keep the predictions, and ask people about a few of the champion's; returns how many tasks were added.

        A prediction that was seen before draws nothing again.
        """
        if not predictions:
            return 0
        added, waiting = await self.ledgers.transact(lambda ledger: self._draw(ledger, predictions))
        if waiting:
            self.on_requests()
        return added

    def _draw(self, ledger: Ledger, predictions: Sequence[Prediction]) -> tuple[int, bool]:
        new = [one for one in ledger.pool.note_predictions(predictions) if one.reference.role == CHAMPION]
        waiting = bool(ledger.datasets.open_requests())
        if not new:
            return 0, waiting
        incidents = {one.id: one for one in ledger.datasets.drawing_incidents()}
        round_ = _Round(
            self.policy,
            self.rate.factor(self.policy.tasks_per_second),
            ledger.datasets.all(),
            incidents,
            self.clock(),
            uncertain=not incidents and not waiting,
        )
        drawn = [task for task in map(round_.draw, new) if task is not None]
        for prediction in new:
            self.rate.observe(prediction.captured_at, sum(full_probabilities(prediction, self.policy)))
        unasked = ledger.pool.unasked(task.asset_id for task in drawn)
        added = ask(ledger, [task for task in drawn if task.asset_id in unasked])
        for identity in round_.touched:
            ledger.datasets.put_incident(round_.incidents[identity])
        if added:
            LABELING_CLOSED.labels("crowded_out").inc(ledger.tasks.crowd_out(self.policy.open_tasks))
        return added, waiting


@dataclass(slots=True)
class _Round:
    """One batch being drawn from."""

    policy: DrawPolicy
    factor: float
    datasets: Sequence[Dataset]
    incidents: dict[str, Incident]
    now: Micros
    uncertain: bool
    touched: set[str] = field(default_factory=set)

    def draw(self, prediction: Prediction) -> Task | None:
        """At most one task for it."""
        dataset = dataset_for(self.datasets, prediction)
        if dataset is None:
            return None
        draw = draw_arriving(prediction, self.policy, self.factor, uncertain=self.uncertain)
        cause = ""
        if draw is None or draw.origin is not Origin.UNIFORM:
            incident = self._incident(prediction)
            if incident is not None:
                draw, cause = self._drift_draw(incident), incident.id
        return task_of(prediction, draw, dataset.name, cause, self.now) if draw is not None else None

    def _incident(self, prediction: Prediction) -> Incident | None:
        for incident in self.incidents.values():
            if (
                incident.drawn < self.policy.drift_tasks
                and incident.model == prediction.reference.model
                and (not incident.cameras or prediction.camera_id in incident.cameras)
                and prediction.captured_at >= incident.began_at
                and unit(f"drift/{incident.id}", prediction.asset_id) < self.policy.drift_share
            ):
                return incident
        return None

    def _drift_draw(self, incident: Incident) -> Draw:
        self.incidents[incident.id] = replace(incident, drawn=incident.drawn + 1)
        self.touched.add(incident.id)
        uniform = uniform_probability(self.policy, self.factor)
        return Draw(Origin.DRIFT, (1.0 - uniform) * self.policy.drift_share)
