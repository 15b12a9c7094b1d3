"""`irisloop.trainer.v1.TrainerService`."""

from __future__ import annotations

from typing import Any

import grpc
from irisloop.trainer.v1 import trainer_pb2 as pb
from irisloop.trainer.v1 import trainer_pb2_grpc

from services.common.errors import InvalidMessage
from services.common.grpc import principal
from services.trainer import queries, wire
from services.trainer.evaluation import Evaluations
from services.trainer.handlers import Handlers, Order

Context = grpc.aio.ServicerContext[Any, Any]


class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """Decodes, calls a handler or a query, encodes; errors are mapped by the kit's interceptor."""

    def __init__(self, handlers: Handlers, evaluations: Evaluations) -> None:
        self._handlers = handlers
        self._evaluations = evaluations

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:
        order = Order(
            model=_required("model", request.model),
            dataset=_required("dataset", request.dataset),
            requested_by=principal(context),
            request_id=request.request_id,
            dataset_version=request.dataset_version,
            seed=request.seed,
            epochs=request.epochs,
            from_scratch=request.from_scratch,
        )
        return pb.StartRunResponse(run=wire.run_message(await self._handlers.start_run(order)))

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        run = await queries.run(self._handlers.books, _required("run_id", request.run_id))
        return pb.GetRunResponse(run=wire.run_message(run))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        page = await queries.runs(
            self._handlers.books,
            model=request.model,
            dataset=request.dataset,
            since=wire.time_value(request.since, "since") if request.HasField("since") else None,
            limit=request.limit,
            cursor=request.cursor,
        )
        return pb.ListRunsResponse(runs=[wire.run_message(run) for run in page.runs], next_cursor=page.next_cursor)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        run = await self._handlers.cancel_run(_required("run_id", request.run_id))
        return pb.CancelRunResponse(run=wire.run_message(run))

    async def Evaluate(self, request: pb.EvaluateRequest, context: Context) -> pb.EvaluateResponse:
        report = await self._evaluations.evaluate(
            _required("model", request.model),
            _required("version", request.version),
            _required("dataset", request.dataset),
            request.dataset_version,
        )
        return pb.EvaluateResponse(report=report)


def _required(field: str, value: str) -> str:
    if not value:
        raise InvalidMessage(f"`{field}` is empty", field=field)
    return value
