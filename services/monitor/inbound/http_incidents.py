"""What people do about incidents and the retraining they ask for, by HTTP: the same commands as by gRPC. An accepted
command is carried out within seconds; its effect is in the incident's history.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.monitor.v1 import monitor_pb2 as pb
from pydantic import AwareDatetime, BaseModel, Field

from services.common.http import Principal
from services.monitor import queries
from services.monitor.commands import Commands
from services.monitor.inbound.json import as_json
from services.monitor.wire_fleet import plan_message


class CommandBody(BaseModel):
    """Why, for the history; the same `command_id` again is the same command again."""

    why: str = ""
    command_id: str = Field(default="", max_length=128)


class MuteBody(CommandBody):
    """Until then nobody is told; without a time, until the incident is over."""

    until: AwareDatetime | None = None


class PlanBody(CommandBody):
    """A change of `cameras` (ids with * and ?) that have all of `labels`, as {"site": "hall-2"}."""

    plan_id: str = Field(default="", max_length=128)
    cameras: list[str] = []
    labels: dict[str, str] = {}
    starts_at: AwareDatetime
    ends_at: AwareDatetime


class Answer(BaseModel):
    """A person's word on a retraining that waits for it."""

    approve: bool
    incident_id: str = ""
    reason: str = ""
    answered_by: str = ""


def routes(reader: queries.Reader, commands: Commands) -> APIRouter:
    """The router; times are RFC 3339 with a zone."""
    router = APIRouter(prefix="/api/v1", tags=["monitor"])

    @router.get("/incidents/{incident_id}")
    async def incident(incident_id: str) -> dict[str, Any]:
        return as_json((await reader.incident(pb.GetIncidentRequest(id=incident_id))).incident)

    @router.post("/incidents/{incident_id}/acknowledge", status_code=202)
    async def acknowledge(incident_id: str, body: CommandBody, who: Principal) -> dict[str, str]:
        request = pb.AcknowledgeIncidentRequest(id=incident_id, why=body.why, command_id=body.command_id)
        return {"command_id": await commands.acknowledge(request, who)}

    @router.post("/incidents/{incident_id}/mute", status_code=202)
    async def mute(incident_id: str, body: MuteBody, who: Principal) -> dict[str, str]:
        request = pb.MuteIncidentRequest(id=incident_id, why=body.why, command_id=body.command_id)
        if body.until is not None:
            request.until.FromDatetime(body.until)
        return {"command_id": await commands.mute(request, who)}

    @router.post("/models/{model}/retrain-answers")
    async def answer_retrain(model: str, body: Answer, who: Principal) -> dict[str, Any]:
        answer = await commands.answer(pb.AnswerRetrainRequest(model=model, **body.model_dump()), who)
        return as_json(pb.AnswerRetrainResponse(answer=answer))

    @router.get("/plans")
    async def plans(open: bool = False) -> dict[str, Any]:
        return {"plans": [as_json(plan_message(plan)) for plan in await commands.plans(open)]}

    @router.post("/plans", status_code=202)
    async def plan(body: PlanBody, who: Principal) -> dict[str, str]:
        request = pb.PlanChangeRequest(
            plan_id=body.plan_id, cameras=body.cameras, labels=body.labels, why=body.why, command_id=body.command_id,
            starts_at=_stamp(body.starts_at), ends_at=_stamp(body.ends_at),
        )  # fmt: skip
        command, plan_id = await commands.plan(request, who)
        return {"command_id": command, "plan_id": plan_id}

    @router.post("/plans/{plan_id}/cancel", status_code=202)
    async def cancel(plan_id: str, body: CommandBody, who: Principal) -> dict[str, str]:
        request = pb.CancelPlanRequest(plan_id=plan_id, why=body.why, command_id=body.command_id)
        return {"command_id": await commands.cancel(request, who)}

    return router


def _stamp(at: AwareDatetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
