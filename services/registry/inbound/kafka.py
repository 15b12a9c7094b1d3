"""Finished runs, evaluations and judgements of challengers, off the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import CHALLENGER_JUDGED, EVALUATION_FINISHED, RUN_FINISHED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Bus, Delivery, Subscription
from services.common.errors import PoisonedDelivery
from services.registry.handlers import Handlers
from services.registry.outbound.codec import candidate_of_run

log = structlog.get_logger()


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
        """Judge what succeeded; a run that failed offers nothing."""
        for place, delivery in enumerate(batch):
            run = delivery.value.run
            if run.state != trainer_pb2.RUN_STATE_SUCCEEDED:
                log.info("run_without_version", run=run.id, state=trainer_pb2.RunState.Name(run.state), error=run.error)
                continue
            if not run.model or not run.package.digest:
                raise PoisonedDelivery(place, "a successful run needs `run.model` and `run.package.digest`", field="run")
            version = await self.handlers.judge_run(candidate_of_run(run), delivery.ce_time)
            log.info("version_judged", model=run.model, version=version.name, state=version.state.value, run=run.id)

    async def note_evaluations(self, batch: Sequence[Delivery[trainer_pb2.EvaluationFinished]]) -> None:
        """A report asked for by hand informs people; it decides nothing."""
        for delivery in batch:
            log.info("evaluation_noted", model=delivery.value.model, version=delivery.value.version)

    async def note_judgements(self, batch: Sequence[Delivery[monitor_pb2.ChallengerJudged]]) -> None:
        """Live verdicts inform people; stages by live traffic are not part of the policy yet."""
        for delivery in batch:
            log.info("judgement_noted", model=delivery.value.model, verdict=delivery.value.verdict)
