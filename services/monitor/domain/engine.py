"""The whole judging as one value: inputs go in as they are read, findings come out in an order that only event time
decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import floor

from services.monitor.domain import conduct
from services.monitor.domain.challenge.verdict import say
from services.monitor.domain.events import (
    CHAMPION,
    CameraKnown,
    Commanded,
    Deployed,
    Finding,
    Input,
    Judged,
    Labelled,
    RolloutKnown,
    RunEnded,
    Seen,
    VersionKnown,
)
from services.monitor.domain.fleet import orders, planned
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.merge import Merger
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.quality.book import TruthBook
from services.monitor.domain.quality.traffic import Traffic
from services.monitor.domain.quality.truth import Truth

TICK = 1.0  # Seconds of event time between two looks at a model.


@dataclass(slots=True)
class Engine:
    """State of all models, and the inputs that wait for their turn. What labels say of quality is counted aside, in
    `truth` and `traffic`: it needs no order, and decides nothing.
    """

    policy: Policy
    merger: Merger
    models: dict[str, ModelWatch] = field(default_factory=dict)
    clock: float = 0.0
    taken: int = 0
    truth: TruthBook = field(default_factory=TruthBook)
    traffic: Traffic = field(default_factory=Traffic)
    board: Board = field(default_factory=Board)

    @classmethod
    def new(cls, policy: Policy) -> Engine:
        """Knowing nothing."""
        merger = Merger(policy.merge.lateness_seconds, policy.merge.idle_seconds)
        return cls(policy, merger, truth=TruthBook(policy.quality))

    def feed(self, items: Iterable[tuple[str, bool, Input]]) -> list[Finding]:
        """Take (partition, whether it holds others back, input); say what can be said by now."""
        self.merger.add(items)
        return list(self._run(self.merger.release()))

    def learn(self, truths: Iterable[Truth]) -> None:
        """Count labels, as soon as they are read."""
        for truth in truths:
            self.truth.take(truth)

    def drain(self) -> list[Finding]:
        """Nothing more is coming for now: judge what still waits."""
        return list(self._run(self.merger.drain()))

    def _run(self, inputs: Sequence[Input]) -> Iterator[Finding]:
        for item in inputs:
            yield from self._advance(item.at)
            yield from self._take(item)
            self.taken += 1

    def _advance(self, at: float) -> Iterator[Finding]:
        """Ticks lie on whole seconds of event time, so they do not depend on how inputs were cut into batches."""
        second = floor(at / TICK) * TICK
        if second > self.clock:
            self.clock = second
            for name in sorted(self.models):
                yield from conduct.tick(self.models[name], self.board, second, self.policy)
            for plan in self.board.ended(second):
                for name in sorted(self.models):
                    yield from planned.finish(self.models[name], plan, self.board, second)

    def _take(self, item: Input) -> Iterator[Finding]:
        if isinstance(item, Seen):
            yield from self._see(item)
        elif isinstance(item, Labelled):
            for name in sorted({p.model for p in item.predictions if p.role == CHAMPION}):
                self.watch(name).label(item, self.policy)
            for name in sorted(self.models):
                yield from self._label_trial(self.models[name], item)
        elif isinstance(item, RunEnded):
            because = "its run succeeded" if item.succeeded else f"its run failed: {item.reason}"
            self.watch(item.model).ledger.close(item.request_id, item.at, because)
        elif isinstance(item, VersionKnown):
            self.watch(item.model).know(item, self.policy)
        elif isinstance(item, Deployed):
            self.watch(item.model).deploy(item)
        elif isinstance(item, RolloutKnown) and (item.id or item.model in self.models):
            self.watch(item.model).roll_out(item, self.policy)
        elif isinstance(item, CameraKnown):
            self.board.know(item)
        elif isinstance(item, Commanded) and self.board.is_new(item):
            orders.carry_out(item, self.board, list(self.models.values()))

    def _see(self, item: Seen) -> Iterator[Finding]:
        watch = self.models.get(item.model)
        if watch is not None:
            yield from self._see_trial(watch, item)
        if item.failed:
            self.traffic.see(item)
            return
        watch = self.watch(item.model)
        repeated = watch.repeated
        changed = watch.see(item, self.policy)
        if watch.repeated == repeated:
            self.traffic.see(item)
        if changed:
            yield from conduct.close(watch, item.at)
            watch.adopt(self.policy)

    def _see_trial(self, watch: ModelWatch, item: Seen) -> Iterator[Judged]:
        if watch.trial is not None and watch.trial.concerns(item):
            watch.trial.excused = bool(watch.cases)
            watch.trial.see(item, self.policy.challenge)
            yield from say(watch.trial, item, self.policy.challenge)

    def _label_trial(self, watch: ModelWatch, item: Labelled) -> Iterator[Judged]:
        if watch.trial is not None and any(p.model == watch.model for p in item.predictions):
            watch.trial.label(item, self.policy.challenge)
            yield from say(watch.trial, item, self.policy.challenge)

    def watch(self, model: str) -> ModelWatch:
        """A model's state, begun when it is first heard of."""
        if model not in self.models:
            self.models[model] = ModelWatch(model)
        return self.models[model]
