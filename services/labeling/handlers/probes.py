"""Holds blind probes: asks people about old assets again, and tells what they say now.

Their answers are no revisions: the old reading was right in its time, and if its class has moved it is superseded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.common.bus import derive_id
from services.common.metrics import LABELING_ANSWERS, LABELING_CLOSED
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import (
    Annotation,
    Dataset,
    Draw,
    Label,
    Micros,
    Origin,
    Source,
    State,
    Task,
    whole_image_class,
)
from services.labeling.domain.ports import Clock, Ledger, Ledgers
from services.labeling.domain.probe import Probe, ProbeEnd, Reading, draw_old
from services.labeling.handlers.asking import CANDIDATES, ask

MOST: Final = 1_000
"""More assets are no probe."""


@dataclass(frozen=True, slots=True)
class ProbeHandlers:
    """Bound to a ledger, a clock and the policy of drawing."""

    ledgers: Ledgers
    clock: Clock
    policy: DrawPolicy

    async def hold(self, wanted: Sequence[Probe]) -> int:
        """Draw what is asked for, once for each id; returns how many tasks were added."""
        return await self.ledgers.transact(lambda ledger: sum(self._hold(ledger, probe) for probe in wanted))

    async def end_those_over(self) -> int:
        """End probes whose time is over, or whose last task was closed for another reason; returns how many."""

        def work(ledger: Ledger) -> int:
            now = self.clock()
            return sum(end_if_over(ledger, probe, now) for probe in ledger.probes.open())

        held = await self.ledgers.read(lambda ledger: bool(ledger.probes.open()))
        return await self.ledgers.transact(work) if held else 0

    def _hold(self, ledger: Ledger, wanted: Probe) -> int:
        if ledger.probes.get(wanted.id) is not None:
            return 0
        now = self.clock()
        if now >= wanted.until:
            end(ledger, wanted, ProbeEnd.EXPIRED, now)
            return 0
        tasks, readings = self._draw(ledger, wanted)
        added = ask(ledger, tasks)
        # An asset that is asked about already has no second task.
        there = ledger.tasks.by_ids(task.id for task in tasks)
        asked = [one for one in readings if one.task_id in there]
        ledger.probes.add(asked)
        probe = replace(wanted, drawn=len(asked), annotators=tuple(sorted({one.annotated_before_by for one in asked})))
        if asked:
            ledger.probes.put(probe)
        else:
            end(ledger, probe, ProbeEnd.NO_ASSETS, now)
        return added

    def _draw(self, ledger: Ledger, probe: Probe) -> tuple[list[Task], list[Reading]]:
        found: dict[str, tuple[Annotation, Dataset]] = {}
        for dataset in ledger.datasets.all():
            if set(probe.class_names) <= set(dataset.class_names):
                for one in ledger.annotations.answered_before(
                    probe.answered_before, dataset, probe.cameras, CANDIDATES
                ):
                    found.setdefault(one.asset.id, (one, dataset))
        drawn = draw_old(probe, [one for one, _ in found.values()])
        ledger.pool.note_assets([one.asset for one, _ in drawn])  # They may have left the pool since.
        before = ledger.tasks.by_ids(one.task_id for one, _ in drawn if one.task_id)
        tasks = [self._task(probe, one, found[one.asset.id][1], before.get(one.task_id)) for one, _ in drawn]
        readings = [
            _reading(probe, one, task.id, propensity) for (one, propensity), task in zip(drawn, tasks, strict=True)
        ]
        return tasks, readings

    def _task(self, probe: Probe, old: Annotation, dataset: Dataset, before: Task | None) -> Task:
        """It looks like the random task that the asset once was, or could have been."""
        drawn = before.draw if before is not None and before.draw.origin is Origin.UNIFORM else None
        return Task(
            id=derive_id("task", old.asset.id, Origin.PROBE.name, probe.id),
            asset_id=old.asset.id,
            camera_id=old.asset.camera_id,
            captured_at=old.asset.captured_at,
            state=State.OPEN,
            draw=Draw(Origin.PROBE, drawn.propensity if drawn is not None else self.policy.uniform_share),
            suggestion=None,
            dataset=dataset.name,
            cause=probe.id,
            created_at=before.created_at if before is not None else old.asset.captured_at,
        )


def _reading(probe: Probe, old: Annotation, task_id: str, propensity: float) -> Reading:
    return Reading(
        task_id=task_id,
        probe_id=probe.id,
        asset_id=old.asset.id,
        camera_id=old.asset.camera_id,
        captured_at=old.asset.captured_at,
        class_before=old.class_name,
        annotated_before_by=old.annotated_by,
        annotated_before_at=old.annotated_at,
        propensity=propensity,
    )


def waiting_for(ledger: Ledger, who: str, dataset: str, limit: int, now: Micros) -> list[Task]:
    """Open tasks of probes that this person may be handed, newest first."""
    probes = {probe.id: probe for probe in ledger.probes.open()}
    tasks = ledger.tasks.newest_open(Origin.PROBE, dataset, limit) if probes else []
    if not tasks:
        return []
    left = {key: probe.most_for(who, now) - ledger.tasks.handed(key, who) for key, probe in probes.items()}
    readings = ledger.probes.readings(task.id for task in tasks)
    chosen: list[Task] = []
    for task in tasks:
        reading, probe = readings.get(task.id), probes.get(task.cause)
        if reading is None or probe is None or not probe.may_ask(who, reading.annotated_before_by, now):
            continue
        if left[probe.id] > 0:
            left[probe.id] -= 1
            chosen.append(task)
    return chosen


def take_again(
    ledger: Ledger, answers: Mapping[str, tuple[Task, tuple[Label, ...]]], by: str, now: Micros
) -> dict[str, Annotation]:
    """Take answers (by task) to old assets, and say them; returns what was understood, as if each were a first label.

    The same again says nothing; another answer to the same task stands in the place of the first. Nothing is said of
    an asset that was deleted or whose old label was taken back meanwhile.
    """
    if not answers:
        return {}
    readings = ledger.probes.readings(answers)
    current = ledger.annotations.current(one.asset_id for one in readings.values())
    gone = ledger.pool.deleted(current)
    understood: dict[str, Annotation] = {}
    said: dict[str, list[Reading]] = {}
    settled: dict[State, list[str]] = {State.DONE: [], State.SKIPPED: []}
    for task_id, (task, labels) in answers.items():
        reading, old = readings[task_id], current.get(task.asset_id)
        if not labels and task.state is not State.DONE:
            settled[State.SKIPPED].append(task_id)
        if not labels or old is None or task.asset_id in gone:
            continue
        settled[State.DONE].append(task_id)
        now_read = replace(
            reading,
            class_now=whole_image_class(labels),
            annotated_now_by=by,
            annotated_now_at=now,
            revision=reading.revision + 1,
        )
        known = reading.revision > 0 and (reading.class_now, reading.annotated_now_by) == (now_read.class_now, by)
        understood[task_id] = _as_a_first_label(reading if known else now_read, old, labels)
        if not known and now_read.class_now and not old.withdrawn:
            ledger.probes.answer(now_read)
            said.setdefault(reading.probe_id, []).append(now_read)
    _settle(ledger, settled, said, {one.probe_id for one in readings.values()}, now)
    return understood


def _settle(
    ledger: Ledger,
    settled: Mapping[State, Sequence[str]],
    said: Mapping[str, Sequence[Reading]],
    touched: set[str],
    now: Micros,
) -> None:
    for state, ids in settled.items():
        ledger.tasks.settle(ids, state)
    LABELING_ANSWERS.labels("again").inc(sum(len(readings) for readings in said.values()))
    LABELING_ANSWERS.labels("skipped").inc(len(settled[State.SKIPPED]))
    for probe_id in sorted(touched):
        probe = ledger.probes.get(probe_id)
        if probe is not None:
            ledger.say_again(probe, said.get(probe_id, ()))
            end_if_over(ledger, probe, now)


def _as_a_first_label(reading: Reading, old: Annotation, labels: tuple[Label, ...]) -> Annotation:
    """What a person gets back who answers a task of an asset that nobody had labelled."""
    return Annotation(
        id=derive_id("annotation", reading.task_id, str(reading.revision)),
        asset=old.asset,
        revision=reading.revision,
        labels=labels,
        annotated_by=reading.annotated_now_by,
        annotated_at=reading.annotated_now_at,
        valid_from=reading.captured_at,
        source=Source.TASK,
        task_id=reading.task_id,
    )


def end_of_incident(ledger: Ledger, incident_id: str, now: Micros) -> None:
    """The answers of an incident's probe are wanted no more."""
    for probe in ledger.probes.open():
        if probe.incident_id == incident_id:
            end(ledger, probe, ProbeEnd.NOT_WANTED, now)


def end_if_over(ledger: Ledger, probe: Probe, now: Micros) -> bool:
    """Whether it is over by now, because of its time or because nobody is asked any more."""
    if probe.ended is not None:
        return False
    if now >= probe.until:
        end(ledger, probe, ProbeEnd.EXPIRED, now)
    elif ledger.tasks.pending(probe.id) == 0:
        end(ledger, probe, ProbeEnd.ANSWERED, now)
    else:
        return False
    return True


def end(ledger: Ledger, probe: Probe, reason: ProbeEnd, now: Micros) -> None:
    """End it, say so, and close what is still asked for it."""
    LABELING_CLOSED.labels("probe_over").inc(ledger.tasks.close_cause(probe.id))
    ended = replace(probe, ended=reason)
    ledger.probes.put(ended)
    ledger.say_ended(ended, ledger.probes.tally(probe.id), now)
