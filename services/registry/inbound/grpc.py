"""`irisloop.registry.v1.RegistryService`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.registry.v1 import registry_pb2_grpc

from services.common.errors import InvalidMessage
from services.common.grpc import principal
from services.registry import queries, wire
from services.registry.domain.model import Candidate
from services.registry.domain.names import check_name
from services.registry.handlers import Handlers

Context = grpc.aio.ServicerContext[Any, Any]


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Decodes, calls a handler or a query, encodes; errors are mapped by the kit's interceptor."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def RegisterVersion(self, request: pb.RegisterVersionRequest, context: Context) -> pb.RegisterVersionResponse:
        candidate = Candidate(
            model=check_name("model", request.model),
            package=wire.package_value(request.package),
            run_id=request.run_id,
            request_id="",
            dataset=request.dataset,
            dataset_version=request.dataset_version,
            class_names=tuple(request.class_names),
            registered_by=principal(context),
            evidence=None,
        )
        _required("package.digest", request.package.digest)
        version = await self._handlers.register_version(candidate)
        return pb.RegisterVersionResponse(version=wire.version_message(version))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        model = await queries.model(self._handlers.ledgers, _required("model", request.model))
        return pb.GetModelResponse(model=wire.model_message(model))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        models = await queries.models(self._handlers.ledgers)
        return pb.ListModelsResponse(models=[wire.model_message(model) for model in models])

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.GetVersionResponse:
        chosen = _required("version", request.version)
        version = await queries.version(self._handlers.ledgers, _required("model", request.model), chosen)
        return pb.GetVersionResponse(version=wire.version_message(version))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        since = _since(request)
        found = await queries.versions(self._handlers.ledgers, request.model, since=since, run_id=request.run_id)
        return pb.ListVersionsResponse(versions=[wire.version_message(version) for version in found])

    async def Promote(self, request: pb.PromoteRequest, context: Context) -> pb.PromoteResponse:
        model, version = _required("model", request.model), _required("version", request.version)
        by = principal(context)
        after = await self._handlers.promote(model, version, by=by, reason=request.reason, force=request.force)
        return pb.PromoteResponse(model=wire.model_message(after))

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:
        model = _required("model", request.model)
        after = await self._handlers.roll_back(model, by=principal(context), reason=request.reason)
        return pb.RollbackResponse(model=wire.model_message(after))

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        model, alias = _required("model", request.model), _required("alias", request.alias)
        by = principal(context)
        after = await self._handlers.set_alias(model, alias, request.version, by=by, reason=request.reason)
        return pb.SetAliasResponse(model=wire.model_message(after))

    async def Approve(self, request: pb.ApproveRequest, context: Context) -> pb.ApproveResponse:
        model, version = _required("model", request.model), _required("version", request.version)
        by, yes = principal(context), request.approve
        after = await self._handlers.approve(model, version, by=by, approved=yes, reason=request.reason)
        return pb.ApproveResponse(version=wire.version_message(after))

    async def PutRollout(self, request: pb.PutRolloutRequest, context: Context) -> pb.PutRolloutResponse:
        model, wish = _required("model", request.model), wire.wish_value(request)
        rollout = await self._handlers.put_rollout(model, wish, by=principal(context))
        return pb.PutRolloutResponse(rollout=wire.rollout_message(rollout))

    async def EndRollout(self, request: pb.EndRolloutRequest, context: Context) -> pb.EndRolloutResponse:
        model = _required("model", request.model)
        after = await self._handlers.end_rollout(model, by=principal(context), reason=request.reason)
        return pb.EndRolloutResponse(model=wire.model_message(after))

    async def ListHistory(self, request: pb.ListHistoryRequest, context: Context) -> pb.ListHistoryResponse:
        page = await queries.history(
            self._handlers.ledgers,
            _required("model", request.model),
            limit=request.limit,
            cursor=request.cursor,
            since=_since(request),
        )
        moves = [wire.move_message(move) for move in page.moves]
        return pb.ListHistoryResponse(moves=moves, next_cursor=page.next_cursor)


def _required(field: str, value: str) -> str:
    if not value:
        raise InvalidMessage(f"`{field}` is empty", field=field)
    return value


def _since(request: pb.ListVersionsRequest | pb.ListHistoryRequest) -> datetime | None:
    return wire.time_value(request.since, "since") if request.HasField("since") else None
