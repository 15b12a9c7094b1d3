"""`irisloop.monitor.v1.MonitorService`."""

from __future__ import annotations

from typing import Any

import grpc
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.monitor.v1 import monitor_pb2_grpc

from services.common.grpc import principal
from services.monitor import queries
from services.monitor.commands import Commands
from services.monitor.wire_fleet import plan_message

Context = grpc.aio.ServicerContext[Any, Any]


class MonitorServicer(monitor_pb2_grpc.MonitorServiceServicer):
    """Each call is a query or a command; errors are mapped by the kit's interceptor."""

    def __init__(self, reader: queries.Reader, commands: Commands) -> None:
        self._reader = reader
        self._commands = commands

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        return await self._reader.status(request)

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Context) -> pb.ListIncidentsResponse:
        return await self._reader.incidents(request)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Context) -> pb.ListDecisionsResponse:
        return await self._reader.decisions(request)

    async def AnswerRetrain(self, request: pb.AnswerRetrainRequest, context: Context) -> pb.AnswerRetrainResponse:
        return pb.AnswerRetrainResponse(answer=await self._commands.answer(request, principal(context)))

    async def GetAccuracy(self, request: pb.GetAccuracyRequest, context: Context) -> pb.GetAccuracyResponse:
        return await self._reader.accuracy(request)

    async def GetQuality(self, request: pb.GetQualityRequest, context: Context) -> pb.GetQualityResponse:
        return await self._reader.quality(request)

    async def ListPredictions(self, request: pb.ListPredictionsRequest, context: Context) -> pb.ListPredictionsResponse:
        return await self._reader.predictions(request)

    async def ExplainIncident(self, request: pb.ExplainIncidentRequest, context: Context) -> pb.ExplainIncidentResponse:
        return await self._reader.explain(request)

    async def GetIncident(self, request: pb.GetIncidentRequest, context: Context) -> pb.GetIncidentResponse:
        return await self._reader.incident(request)

    async def AcknowledgeIncident(
        self, request: pb.AcknowledgeIncidentRequest, context: Context
    ) -> pb.AcknowledgeIncidentResponse:
        command = await self._commands.acknowledge(request, principal(context))
        return pb.AcknowledgeIncidentResponse(command_id=command)

    async def MuteIncident(self, request: pb.MuteIncidentRequest, context: Context) -> pb.MuteIncidentResponse:
        return pb.MuteIncidentResponse(command_id=await self._commands.mute(request, principal(context)))

    async def PlanChange(self, request: pb.PlanChangeRequest, context: Context) -> pb.PlanChangeResponse:
        command, plan = await self._commands.plan(request, principal(context))
        return pb.PlanChangeResponse(command_id=command, plan_id=plan)

    async def CancelPlan(self, request: pb.CancelPlanRequest, context: Context) -> pb.CancelPlanResponse:
        return pb.CancelPlanResponse(command_id=await self._commands.cancel(request, principal(context)))

    async def ListPlans(self, request: pb.ListPlansRequest, context: Context) -> pb.ListPlansResponse:
        return pb.ListPlansResponse(plans=[plan_message(p) for p in await self._commands.plans(request.open)])
