"""What people may do: each word is checked, made an event, and carried out by the judge at its place in the order of
events, so that a replay does the same. An answer about a retraining has a topic of its own, `retrain answered`; every
other word is a `command given`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import uuid4

from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import RETRAIN_ANSWERED

from services.common.bus import Event
from services.common.errors import Conflict, InvalidMessage, Unavailable
from services.monitor.domain.deciding import AWAITS_PERSON
from services.monitor.domain.engine import Engine
from services.monitor.domain.fleet.board import Plan
from services.monitor.domain.retraining import derive
from services.monitor.errors import NothingToAnswer, UnknownIncident, UnknownPlan
from services.monitor.handlers import Judge
from services.monitor.wire_fleet import command_event
from services.monitor.wire_time import seconds

T = TypeVar("T")
Publish = Callable[[Sequence[Event[Any]]], Awaitable[None]]

_WORDS: Final = 500
_SELECTORS: Final = 200


def _now() -> datetime:
    return datetime.now(UTC)


class Commands:
    """Returns when a command is durable; what it does is seen a second or two later."""

    def __init__(
        self, judge: Judge, publish: Publish, waiting_for: Callable[[], str], clock: Callable[[], datetime] = _now
    ) -> None:
        """`waiting_for` says why this instance's judge knows nothing of incidents; empty when it does."""
        self._judge = judge
        self._publish = publish
        self._waiting_for = waiting_for
        self._clock = clock

    async def answer(self, request: pb.AnswerRetrainRequest, by: str) -> pb.RetrainAnswered:
        """Approve or refuse the retraining that waits for a person. Raises `InvalidMessage`, `NothingToAnswer`."""
        if not request.model:
            raise InvalidMessage("model is empty: name the model whose retraining you answer", field="model")
        answer = pb.RetrainAnswered(
            id=str(uuid4()),
            model=request.model,
            incident_id=await self._look(lambda engine: _awaiting(engine, request)),
            approved=request.approve,
            answered_by=request.answered_by or by,
            reason=request.reason,
        )
        at = self._clock()
        answer.answered_at.FromDatetime(at)
        await self._publish([Event(RETRAIN_ANSWERED, answer.model, answer, answer.id, at)])
        return answer

    async def acknowledge(self, request: pb.AcknowledgeIncidentRequest, by: str) -> str:
        """Somebody has taken an incident on; returns the command's id. Raises `UnknownIncident`."""
        await self._incident(request.id)
        command = pb.CommandGiven(acknowledge=pb.Acknowledge(incident_id=request.id))
        return await self._give(command, request.command_id, by, request.why, request.id)

    async def mute(self, request: pb.MuteIncidentRequest, by: str) -> str:
        """Tell nobody of an incident, until a time or its end. Raises `UnknownIncident`, `Conflict`, `InvalidMessage`
        for a time that is over or a missing reason.
        """
        _reason(request.why, "to mute")
        is_open = await self._incident(request.id)
        if not is_open:
            raise Conflict(f"incident {request.id} is closed: there is nothing to mute", field="id")
        command = pb.CommandGiven(mute=pb.Mute(incident_id=request.id))
        if request.HasField("until"):
            if seconds(request.until) <= self._clock().timestamp():
                raise InvalidMessage("until has to lie in the future", field="until")
            command.mute.until.CopyFrom(request.until)
        parts = (request.id, str(seconds(request.until)))
        return await self._give(command, request.command_id, by, request.why, *parts)

    async def plan(self, request: pb.PlanChangeRequest, by: str) -> tuple[str, str]:
        """Announce a change; returns the ids of command and plan. Raises `InvalidMessage`, naming the field."""
        self._check_plan(request)
        labels = [f"{name}={value}" for name, value in sorted(request.labels.items())]
        times = (str(seconds(request.starts_at)), str(seconds(request.ends_at)))
        parts = (*request.cameras, "", *labels, "", *times)
        plan_id = request.plan_id or derive("plan", by, request.why, *parts)
        plan = pb.PlanChange(plan_id=plan_id, cameras=request.cameras, labels=dict(request.labels))
        plan.starts_at.CopyFrom(request.starts_at)
        plan.ends_at.CopyFrom(request.ends_at)
        command = pb.CommandGiven(plan=plan)
        return await self._give(command, request.command_id, by, request.why, plan_id, *parts), plan_id

    def _check_plan(self, request: pb.PlanChangeRequest) -> None:
        _reason(request.why, "to announce a change")
        if not (request.cameras or request.labels) or len(request.cameras) + len(request.labels) > _SELECTORS:
            raise InvalidMessage(
                f"a plan names 1 to {_SELECTORS} cameras (ids with * and ?) or labels", field="cameras"
            )
        for field in ("starts_at", "ends_at"):
            if not request.HasField(field):
                raise InvalidMessage(f"{field} is needed", field=field)
        if seconds(request.ends_at) <= max(seconds(request.starts_at), self._clock().timestamp()):
            raise InvalidMessage("ends_at has to lie in the future, and after starts_at", field="ends_at")

    async def cancel(self, request: pb.CancelPlanRequest, by: str) -> str:
        """Call a planned change off. Raises `UnknownPlan`, `Conflict`."""
        plan = await self._look(lambda engine: engine.board.plans.get(request.plan_id))
        if plan is None:
            raise UnknownPlan(f"there is no plan {request.plan_id!r}", field="plan_id")
        if plan.finished:
            raise Conflict(f"plan {plan.id} is over: it cannot be cancelled", field="plan_id")
        command = pb.CommandGiven(cancel=pb.CancelPlan(plan_id=plan.id))
        return await self._give(command, request.command_id, by, request.why, plan.id)

    async def plans(self, only_open: bool) -> list[Plan]:
        """All that are remembered, or only those that are not over or cancelled; oldest first."""
        found = await self._look(lambda engine: list(engine.board.plans.values()))
        return [p for p in found if not only_open or not (p.finished or p.cancelled_at)]

    async def _incident(self, id_: str) -> bool:
        """Whether an incident is open. Raises `UnknownIncident`."""
        found = await self._look(lambda engine: _is_open(engine, id_))
        if found is None:
            raise UnknownIncident(f"there is no incident {id_!r}", field="id")
        return found

    async def _look(self, view: Callable[[Engine], T]) -> T:
        if waiting := self._waiting_for():
            raise Unavailable(f"this monitor cannot say yet: it waits for {waiting}")
        return await asyncio.to_thread(self._judge.look, view)

    async def _give(self, command: pb.CommandGiven, id_: str, by: str, why: str, *parts: str) -> str:
        if len(why) > _WORDS:
            raise InvalidMessage(f"why has at most {_WORDS} characters", field="why")
        kind = command.WhichOneof("command") or ""
        command.id = id_ or derive("command", kind, by, why, *parts)
        command.by, command.why = by, why
        command.given_at.FromDatetime(self._clock())
        await self._publish([command_event(command)])
        return command.id


def _awaiting(engine: Engine, request: pb.AnswerRetrainRequest) -> str:
    watch = engine.models.get(request.model)
    for case in watch.cases if watch is not None else ():
        if request.incident_id in ("", case.id) and AWAITS_PERSON in case.refused and not case.answer:
            return case.id
    raise NothingToAnswer(f"no retraining of {request.model} waits for a person", field="model")


def _is_open(engine: Engine, id_: str) -> bool | None:
    for watch in engine.models.values():
        if any(case.id == id_ for case in watch.cases):
            return True
        if any(incident.id == id_ for incident in watch.incidents):
            return False
    return None


def _reason(why: str, what: str) -> None:
    if not why.strip():
        raise InvalidMessage(f"a reason is needed {what}: it stands in the history", field="why")
