"""Finished runs, evaluations, judgements of challengers and what could not be loaded, off the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irisloop.monitor.v1 import monitor_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import CHALLENGER_JUDGED, DEPLOYMENT_CHANGED, EVALUATION_FINISHED, RUN_FINISHED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Bus, Delivery, Subscription
from services.common.errors import PoisonedDelivery
from services.common.telemetry import bind_trace, log
from services.registry.handlers import Handlers
from services.registry.wire import candidate_of_run, judgement_value


@dataclass(frozen=True, slots=True)
class Listener:
    """Hands each message to its handler."""

    handlers: Handlers

    def listen(self, bus: Bus) -> None:
        """Declare what registry hears."""
        bus.subscribe(Subscription(RUN_FINISHED, "judge-runs", self.judge_runs))
        bus.subscribe(Subscription(EVALUATION_FINISHED, "note-evaluations", self.note_evaluations))
        bus.subscribe(Subscription(CHALLENGER_JUDGED, "note-judgements", self.note_judgements))
        bus.subscribe(Subscription(DEPLOYMENT_CHANGED, "note-failures", self.note_failures))

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
        """A verdict about the rollout that is under way moves it; any other informs people and changes nothing."""
        for delivery in batch:
            judgement = judgement_value(delivery.value)
            with bind_trace(delivery.traceparent):
                step = await self.handlers.note_judgement(judgement)
            step_words = step.value if step else "not under way"
            log.info("judgement_noted", model=judgement.model, verdict=judgement.verdict, step=step_words)

    async def note_failures(self, batch: Sequence[Delivery[serving_pb2.DeploymentChanged]]) -> None:
        """A challenger that does not load is withdrawn."""
        for delivery in batch:
            one = delivery.value.deployment
            if one.state != serving_pb2.DEPLOYMENT_STATE_FAILED:
                continue
            with bind_trace(delivery.traceparent):
                await self.handlers.note_failure(one.model, one.version, one.error, delivery.ce_time)
