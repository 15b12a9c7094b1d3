"""A person's word on a retraining: an event like any other, so that a replay hears it at the same point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import RETRAIN_ANSWERED

from services.common.bus import Bus, Event
from services.common.errors import InvalidMessage
from services.monitor import wire
from services.monitor.domain.deciding import AWAITS_PERSON
from services.monitor.domain.engine import Engine
from services.monitor.errors import NothingToAnswer
from services.monitor.handlers import Judge


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Answers:
    """Takes answers; the judge hears them from the topic."""

    judge: Judge
    bus: Bus
    now: Callable[[], datetime] = _now

    async def take(self, request: pb.AnswerRetrainRequest) -> pb.AnswerRetrainResponse:
        """Say it. Raises `InvalidMessage`, `NothingToAnswer`, `Unavailable`."""
        if not request.model:
            raise InvalidMessage("model is empty: name the model whose retraining you answer", field="model")
        incident_id = self.judge.look(lambda engine: _waiting(engine, request))
        at = self.now()
        answer = pb.RetrainAnswered(
            id=str(uuid4()),
            model=request.model,
            incident_id=incident_id,
            approved=request.approve,
            answered_by=request.answered_by or "local",
            reason=request.reason,
            answered_at=wire.stamp(at.timestamp()),
        )
        await self.bus.publish([Event(RETRAIN_ANSWERED, request.model, answer, answer.id, at)])
        return pb.AnswerRetrainResponse(answer=answer)


def _waiting(engine: Engine, request: pb.AnswerRetrainRequest) -> str:
    watch = engine.models.get(request.model)
    for case in watch.cases if watch is not None else ():
        if request.incident_id in ("", case.id) and AWAITS_PERSON in case.refused and not case.answer:
            return case.id
    raise NothingToAnswer(f"no retraining of {request.model} waits for a person", field="model")
