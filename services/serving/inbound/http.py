"""Serving for people and scripts: `/api/v1/models`, `/api/v1/deployments`, `/api/v1/bindings`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pydantic import BaseModel

from services.serving.codec import deployment_message
from services.serving.domain.bindings import Binding
from services.serving.domain.routes import Route, RouteTable
from services.serving.handlers.bindings import Bindings
from services.serving.handlers.models import Models
from services.serving.inbound.grpc import binding_message


class BindingBody(BaseModel):
    """Which cameras: patterns with * and ?, or tags of which a camera has all."""

    cameras: list[str] = []
    tags: dict[str, str] = {}


def routes(bindings: Bindings, models: Models, table: Callable[[], RouteTable], replica: str) -> APIRouter:
    """The router; bodies are the contract's messages as JSON (snake_case)."""
    router = APIRouter(prefix="/api/v1")
    _reads(router, bindings, models, table, replica)

    @router.put("/bindings/{model}/{role}", tags=["bindings"])
    async def put_binding(model: str, role: str, body: BindingBody) -> dict[str, Any]:
        binding = Binding(model, role, tuple(body.cameras), body.tags)
        return _json(binding_message(await bindings.put(binding)))

    @router.delete("/bindings/{model}/{role}", tags=["bindings"])
    async def delete_binding(model: str, role: str) -> dict[str, Any]:
        await bindings.delete(model, role)
        return {}

    return router


def _reads(
    router: APIRouter, bindings: Bindings, models: Models, table: Callable[[], RouteTable], replica: str
) -> None:
    @router.get("/models", tags=["models"])
    async def list_models() -> dict[str, Any]:
        found = [_model(route) for _, route in sorted(table().routes.items())]
        return {"models": found, "note": "" if found else "No model has an alias yet: nothing is served."}

    @router.get("/deployments", tags=["models"])
    async def list_deployments() -> dict[str, Any]:
        return {"deployments": [_json(deployment_message(one, replica)) for one in models.deployments]}

    @router.get("/bindings", tags=["bindings"])
    async def list_bindings() -> dict[str, Any]:
        return {"bindings": [_json(binding_message(one)) for one in bindings.list()]}


def _model(route: Route) -> dict[str, Any]:
    return {
        "model": route.model,
        "revision": route.revision,
        "aliases": {
            alias: {"asked": target.version, "serving": route.aliases[alias].name if alias in route.aliases else ""}
            for alias, target in sorted(route.asked.items())
        },
        "versions": sorted(route.versions, key=int),
        "problems": dict(route.problems),
    }


def _json(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
