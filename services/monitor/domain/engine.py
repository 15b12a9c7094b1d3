"""The whole judging as one value: inputs go in as they are read, findings come out in an order that only event time
decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import floor

from services.monitor.domain import conduct, outlook, probing
from services.monitor.domain.challenge.verdict import say
from services.monitor.domain.events import Finding, Judged
from services.monitor.domain.fleet import missing, orders, planned
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.inputs import (
    CHAMPION,
    Answered,
    CameraKnown,
    Commanded,
    Deployed,
    Input,
    Labelled,
    RolloutKnown,
    RunEnded,
    Seen,
    VersionKnown,
)
from services.monitor.domain.merge import Merger
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.probe_events import ProbeEnded, Reread
from services.monitor.domain.quality.book import TruthBook
from services.monitor.domain.quality.traffic import Traffic
from services.monitor.domain.quality.truth import Truth
from services.monitor.domain.ticks import Arrival, Gate, Tick, exact

TICK = 1.0  # Seconds of event time between two looks at a model.
STEP = 0.5  # Seconds of event time between two proposals to judge.


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
    gate: Gate = field(default_factory=Gate)
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

    def hear(self, arrivals: Sequence[Arrival], ticks: Iterable[tuple[int, Tick]] = ()) -> None:
        """Take records of the bus, and ticks with their offsets; what they let through is judged by `advance`."""
        self.gate.add(arrivals)
        for arrival in arrivals:
            self.merger.note(arrival.source, arrival.holds, arrival.at)
        for offset, tick in ticks:
            self.gate.tick(offset, tick)

    def propose(self, everything: bool = False) -> Tick | None:
        """The tick that it is time for: up to where no earlier record is expected, or everything; None without one."""
        merger, gate = self.merger, self.gate
        watermark = exact(max(merger.newest, gate.watermark) if everything else merger.watermark())
        if watermark < gate.watermark + (0.0 if everything else STEP):
            return None
        if not any(arrival.at <= watermark for arrival in gate.waiting):
            return None
        return Tick(watermark, gate.moved())

    def advance(self) -> list[Finding] | None:
        """Judge what the ticks let through; None when there was no tick to go by."""
        findings: list[Finding] | None = None
        for released in self.gate.release():
            self.learn(arrival.truth for arrival in released if arrival.truth is not None)
            items = [arrival.item for arrival in released if arrival.item is not None]
            findings = [*(findings or ()), *self._run(items)]
        return findings

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
                watch, policy = self.models[name], self.policy.of(name)
                yield from missing.look(watch, self.models.values(), self.board, second, policy.fleet)
                yield from conduct.tick(watch, self.board, second, policy)
            for plan in self.board.ended(second):
                for name in sorted(self.models):
                    yield from planned.finish(self.models[name], plan, self.board, second)

    def _take(self, item: Input) -> Iterator[Finding]:
        if isinstance(item, Seen):
            yield from self._see(item)
        elif isinstance(item, Labelled):
            for name in sorted({p.model for p in item.predictions if p.role == CHAMPION}):
                self.watch(name).label(item, self.policy.of(name))
            for name in sorted(self.models):
                yield from self._label_trial(self.models[name], item)
        elif isinstance(item, RunEnded):
            self._end_run(item)
        elif isinstance(item, VersionKnown):
            self.watch(item.model).know(item, self.policy.of(item.model))
            outlook.learn(self.watch(item.model), item, self.policy.of(item.model))
        elif isinstance(item, Deployed):
            self.watch(item.model).deploy(item)
        elif isinstance(item, Answered):
            self._answer(item)
        elif isinstance(item, Reread | ProbeEnded):
            probing.hear(item, self.models.get(item.model))
        elif isinstance(item, RolloutKnown) and (item.id or item.model in self.models):
            self.watch(item.model).roll_out(item, self.policy.of(item.model))
        elif isinstance(item, CameraKnown):
            self.board.know(item)
        elif isinstance(item, Commanded) and self.board.is_new(item):
            orders.carry_out(item, self.board, list(self.models.values()))

    def _answer(self, item: Answered) -> None:
        watch = self.models.get(item.model)
        for case in watch.cases if watch is not None else ():
            if case.id == item.incident_id:
                case.answer = item

    def _end_run(self, item: RunEnded) -> None:
        ledger = self.watch(item.model).ledger
        because = "its run succeeded" if item.succeeded else f"its run failed: {item.reason}"
        ledger.trained_seconds = item.seconds or ledger.trained_seconds
        ledger.close(item.request_id, item.at, because)
        outlook.learn(self.watch(item.model), item, self.policy.of(item.model))

    def _see(self, item: Seen) -> Iterator[Finding]:
        watch = self.models.get(item.model)
        if watch is not None:
            yield from self._see_trial(watch, item)
        if item.failed:
            self.traffic.see(item)
            return
        watch = self.watch(item.model)
        repeated = watch.repeated
        policy = self.policy.of(item.model)
        changed = watch.see(item, policy)
        if watch.repeated == repeated:
            self.traffic.see(item)
        if changed:
            yield from conduct.close(watch, item.at)
            watch.adopt(policy)

    def _see_trial(self, watch: ModelWatch, item: Seen) -> Iterator[Judged]:
        if watch.trial is not None and watch.trial.concerns(item):
            watch.trial.excused = bool(watch.cases)
            policy = self.policy.of(watch.model).challenge
            watch.trial.see(item, policy)
            yield from say(watch.trial, item, policy)

    def _label_trial(self, watch: ModelWatch, item: Labelled) -> Iterator[Judged]:
        if watch.trial is not None and any(p.model == watch.model for p in item.predictions):
            policy = self.policy.of(watch.model).challenge
            watch.trial.label(item, policy)
            yield from say(watch.trial, item, policy)

    def watch(self, model: str) -> ModelWatch:
        """A model's state, begun when it is first heard of."""
        if model not in self.models:
            self.models[model] = ModelWatch(model)
        return self.models[model]
