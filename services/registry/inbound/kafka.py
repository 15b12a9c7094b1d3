"""Finished runs, evaluations and judgements of challengers, off the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import CHALLENGER_JUDGED, EVALUATION_FINISHED, RUN_FINISHED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Bus, Delivery, Subscription
from services.common.errors import PoisonedDelivery
from services.common.telemetry import bind_trace, log
from services.registry.handlers import Handlers
from services.registry.wire import candidate_of_run


@dataclass(frozen=True, slots=True)
class Listener:
    """Hands each message to its handler."""

    handlers: Handlers

    def listen(self, bus: Bus) -> None:
        """Declare what registry hears."""
        bus.subscribe(Subscription(RUN_FINISHED, "judge-runs", self.judge_runs))
        bus.subscribe(Subscription(EVALUATION_FINISHED, "note-evaluations", self.note_evaluations))
        bus.subscribe(Subscription(CHALLENGER_JUDGED, "note-judgements", self.note_judgements))

    async def judge_runs(self, batch: Sequence[Delivery[trainer_pb2.RunFinished]]) -> None:
        """Judge what succeeded, each run under its own trace; a run that failed offers nothing."""
        for place, delivery in enumerate(batch):
            run = delivery.value.run
            if run.state != trainer_pb2.RUN_STATE_SUCCEEDED:
                log.info("run_without_version", run=run.id, state=trainer_pb2.RunState.Name(run.state), error=run.error)
                continue
            if not (run.id and run.model and run.package.digest):
                words = "a successful run needs `run.id`, `run.model` and `run.package.digest`"
                raise PoisonedDelivery(place, words, field="run")
            with bind_trace(delivery.traceparent):
                await self.handlers.judge_run(candidate_of_run(run), delivery.ce_time)

    async def note_evaluations(self, batch: Sequence[Delivery[trainer_pb2.EvaluationFinished]]) -> None:
        """A report asked for by hand informs people; it decides nothing."""
        for delivery in batch:
            log.info("evaluation_noted", model=delivery.value.model, version=delivery.value.version)

    async def note_judgements(self, batch: Sequence[Delivery[monitor_pb2.ChallengerJudged]]) -> None:
        """Live verdicts inform people; they move no alias."""
        for delivery in batch:
            log.info("judgement_noted", model=delivery.value.model, verdict=delivery.value.verdict)
