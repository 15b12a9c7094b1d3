"""`irisloop.monitor.v1.MonitorService`."""

from __future__ import annotations

from typing import Any

import grpc
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.monitor.v1 import monitor_pb2_grpc

from services.monitor import queries
from services.monitor.answering import Answers

Context = grpc.aio.ServicerContext[Any, Any]


class MonitorServicer(monitor_pb2_grpc.MonitorServiceServicer):
    """All calls but one are queries; errors are mapped by the kit's interceptor."""

    def __init__(self, reader: queries.Reader, answers: Answers) -> None:
        self._reader = reader
        self._answers = answers

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        return await self._reader.status(request)

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Context) -> pb.ListIncidentsResponse:
        return await self._reader.incidents(request)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Context) -> pb.ListDecisionsResponse:
        return await self._reader.decisions(request)

    async def AnswerRetrain(self, request: pb.AnswerRetrainRequest, context: Context) -> pb.AnswerRetrainResponse:
        return await self._answers.take(request)

    async def GetAccuracy(self, request: pb.GetAccuracyRequest, context: Context) -> pb.GetAccuracyResponse:
        return await self._reader.accuracy(request)

    async def GetQuality(self, request: pb.GetQualityRequest, context: Context) -> pb.GetQualityResponse:
        return await self._reader.quality(request)

    async def ListPredictions(self, request: pb.ListPredictionsRequest, context: Context) -> pb.ListPredictionsResponse:
        return await self._reader.predictions(request)

    async def ExplainIncident(self, request: pb.ExplainIncidentRequest, context: Context) -> pb.ExplainIncidentResponse:
        return await self._reader.explain(request)
