"""Hands tasks to people and takes their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.common.errors import InvalidMessage
from services.common.metrics import LABELING_ANNOTATIONS, LABELING_ANSWERS
from services.labeling.domain.model import BACKGROUND, Annotation, Asset, Label, Origin, Source, State, Task
from services.labeling.domain.ports import Clock, Ledger, Ledgers
from services.labeling.domain.queue import by_priority
from services.labeling.errors import UnknownClass, UnknownTask
from services.labeling.handlers.labels import Said, Scribe
from services.labeling.handlers.probes import take_again, waiting_for

MOST_LEASED = 100
LEASE_SECONDS = 300
LONGEST_LEASE_SECONDS = 86_400
PROBED_AT_ONCE = 1_000
"""So many open tasks of probes are looked at for some that a person may be handed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To a task; no labels skip it."""

    task_id: str
    labels: tuple[Label, ...]


@dataclass(slots=True)
class TaskHandlers:
    """Bound to a ledger and a clock; `on_labels` is called after labels were added."""

    ledgers: Ledgers
    clock: Clock
    on_labels: Callable[[], None]
    handed: int = 0

    async def lease(self, limit: int, seconds: int, dataset: str, by: str) -> list[Task]:
        """The tasks to answer next, for nobody else until the lease ends; 0 for the defaults of 1 and 300 s."""
        if not 0 <= limit <= MOST_LEASED:
            raise InvalidMessage(f"`limit` is 1 to {MOST_LEASED}, got {limit}.", field="limit")
        if not 0 <= seconds <= LONGEST_LEASE_SECONDS:
            raise InvalidMessage(
                f"`lease_seconds` is 1 to {LONGEST_LEASE_SECONDS}, got {seconds}.", field="lease_seconds"
            )
        tasks = await self.ledgers.transact(
            lambda ledger: self._lease(ledger, limit or 1, seconds or LEASE_SECONDS, dataset, by)
        )
        self.handed += len(tasks)
        return tasks

    async def answer(self, answers: Sequence[Answer], by: str) -> list[Annotation]:
        """Take answers; the annotations in their order, without those skipped or whose asset is deleted.

        An answer counts also when the lease has ended or the task was closed meanwhile: the work is done. Answering the
        same again changes nothing; answering otherwise is a correction.
        """
        annotations, added = await self.ledgers.transact(
            lambda ledger: _Answering(ledger, self.clock(), by).take(answers)
        )
        if added:
            self.on_labels()
        return annotations

    async def page(self, state: State | None, after: int, limit: int) -> tuple[list[Task], str, dict[State, int]]:
        """A page after that sequence, the next one's cursor ("" at the end), and how many there are in each state."""

        def work(ledger: Ledger) -> tuple[list[Task], str, dict[State, int]]:
            rows = ledger.tasks.page(state, after, limit + 1)
            cursor = str(rows[limit - 1].sequence) if len(rows) > limit else ""
            return _with_classes(ledger, rows[:limit]), cursor, ledger.tasks.counts()

        return await self.ledgers.read(work)

    def _lease(self, ledger: Ledger, limit: int, seconds: int, dataset: str, by: str) -> list[Task]:
        now = self.clock()
        until = now + seconds * 1_000_000
        ledger.tasks.take_back(now)
        plain: list[Origin] = [origin for origin in Origin if origin is not Origin.PROBE]
        waiting = {origin: ledger.tasks.newest_open(origin, dataset, limit) for origin in plain}
        waiting[Origin.PROBE] = waiting_for(ledger, by, dataset, PROBED_AT_ONCE, now)
        chosen = by_priority(waiting, limit, self.handed)
        if chosen:
            ledger.tasks.lease([task.id for task in chosen], by, until)
        leased = [replace(task, state=State.LEASED, leased_by=by, leased_until=until) for task in chosen]
        return _with_classes(ledger, leased)


class _Answering:
    """One call's answers in one transaction."""

    def __init__(self, ledger: Ledger, now: int, by: str) -> None:
        self._ledger = ledger
        self._now = now
        self._by = by

    def take(self, answers: Sequence[Answer]) -> tuple[list[Annotation], int]:
        """The annotations, and how many of them are new."""
        tasks = self._ledger.tasks.by_ids(answer.task_id for answer in answers)
        self._check(answers, tasks)
        again = {one.task_id: (tasks[one.task_id], one.labels) for one in answers if _is_old(tasks[one.task_id])}
        understood = take_again(self._ledger, again, self._by, self._now)
        order = dict.fromkeys(answer.task_id for answer in answers)
        answers = [answer for answer in answers if answer.task_id not in again]
        ids = {tasks[answer.task_id].asset_id for answer in answers}
        current = self._ledger.annotations.current(ids)
        assets = {**{key: one.asset for key, one in current.items()}, **self._ledger.pool.assets(ids)}
        gone = self._ledger.pool.deleted(ids)
        said, known = self._sort(answers, tasks, {key: assets[key] for key in assets if key not in gone}, current)
        scribe = Scribe(self._ledger, self._by, self._now, self._ledger.pool.references(ids))
        written = {one.task_id: one for one in scribe.write(list(said.values()), current)}
        self._ledger.tasks.settle(list(said), State.DONE)
        self._count(said, tasks)
        taken = {**understood, **known, **written}
        return [taken[key] for key in order if key in taken], len(written)

    def _check(self, answers: Sequence[Answer], tasks: dict[str, Task]) -> None:
        classes = {one.name: set(one.class_names) for one in self._ledger.datasets.all()}
        for place, answer in enumerate(answers):
            task = tasks.get(answer.task_id)
            if task is None:
                raise UnknownTask(f"There is no task {answer.task_id[:64]!r}.", field=f"answers[{place}].task_id")
            for label in answer.labels:
                if label.class_name not in classes.get(task.dataset, ()) and not _is_empty(task, label):
                    raise UnknownClass(
                        f"Dataset {task.dataset!r} has no class {label.class_name!r}.",
                        field=f"answers[{place}].labels",
                    )

    def _sort(
        self,
        answers: Sequence[Answer],
        tasks: dict[str, Task],
        assets: dict[str, Asset],
        current: dict[str, Annotation],
    ) -> tuple[dict[str, Said], dict[str, Annotation]]:
        """What is to be written, by task, and what was answered so before; skipped tasks are settled here."""
        said: dict[str, Said] = {}
        known: dict[str, Annotation] = {}
        skipped = []
        for answer in answers:
            task = tasks[answer.task_id]
            before = current.get(task.asset_id)
            if before is not None and before.task_id == task.id and answer.labels in ((), before.labels):
                known[task.id] = before
            elif not answer.labels and task.state is not State.DONE:
                skipped.append(task.id)
            elif answer.labels and task.asset_id in assets:
                asset = assets[task.asset_id]
                said[task.id] = Said(asset, answer.labels, Source.TASK, task_id=task.id, draw=task.draw)
        self._ledger.tasks.settle(skipped, State.SKIPPED)
        LABELING_ANSWERS.labels("skipped").inc(len(skipped))
        return said, known

    def _count(self, said: dict[str, Said], tasks: dict[str, Task]) -> None:
        LABELING_ANNOTATIONS.labels("task", "created").inc(len(said))
        for task_id, one in said.items():
            suggestion = tasks[task_id].suggestion
            agreed = suggestion is not None and one.labels[0].class_name == suggestion.class_name
            LABELING_ANSWERS.labels("confirmed" if agreed else "corrected").inc()


def _is_old(task: Task) -> bool:
    return task.draw.origin is Origin.PROBE


def _is_empty(task: Task, label: Label) -> bool:
    """Whether it says that a detector's frame shows nothing: no class of the dataset needs to be there for that."""
    boxed = label.box is not None or label.polygon is not None
    asked = task.suggestion is not None and task.suggestion.decision_threshold is not None
    return asked and not boxed and label.class_name == BACKGROUND


def _with_classes(ledger: Ledger, tasks: Sequence[Task]) -> list[Task]:
    classes = {one.name: one.class_names for one in ledger.datasets.all()}
    return [replace(task, class_names=classes.get(task.dataset, ())) for task in tasks]
