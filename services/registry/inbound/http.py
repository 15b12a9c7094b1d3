"""Registry for people and scripts: `/api/v1/models`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pydantic import BaseModel

from services.common.http import Principal
from services.registry import queries, wire
from services.registry.domain.model import Arm, Stage
from services.registry.domain.wishes import Wish
from services.registry.handlers import Handlers


class Promotion(BaseModel):
    """Which version goes live (a number or an alias), why, and whether over the gates' refusal."""

    version: str
    reason: str = ""
    force: bool = False


class Target(BaseModel):
    """The version that an alias points at from now on; an empty one unsets the alias."""

    version: str
    reason: str = ""


class Reason(BaseModel):
    """Why."""

    reason: str = ""


class Verdict(BaseModel):
    """A person's word on a version."""

    approve: bool
    reason: str = ""


class ArmBody(BaseModel):
    """A share of the keys and the version that answers for them."""

    name: str
    version: str
    share: float


class RolloutBody(BaseModel):
    """The stage (shadow, canary, experiment), and what it needs: a challenger and a share, or arms."""

    stage: Stage
    challenger: str = ""
    share: float = 0.0
    arms: list[ArmBody] = []
    automatic: bool = False
    reason: str = ""

    def wish(self) -> Wish:
        """As the handlers take it."""
        arms = tuple(Arm(arm.name, arm.version, arm.share) for arm in self.arms)
        return Wish(self.stage, self.challenger, self.share, arms, self.automatic, self.reason)


def routes(handlers: Handlers) -> APIRouter:
    """The router; bodies are the contracts' messages as JSON (snake_case)."""
    router = APIRouter(prefix="/api/v1/models", tags=["models"])
    _reads(router, handlers)
    _writes(router, handlers)
    _rollouts(router, handlers)
    return router


def _reads(router: APIRouter, handlers: Handlers) -> None:
    ledgers = handlers.ledgers

    @router.get("")
    async def list_models() -> dict[str, Any]:
        return {"models": [_json(wire.model_message(model)) for model in await queries.models(ledgers)]}

    @router.get("/{model}")
    async def get_model(model: str) -> dict[str, Any]:
        return _json(wire.model_message(await queries.model(ledgers, model)))

    @router.get("/{model}/versions")
    async def list_versions(model: str) -> dict[str, Any]:
        await queries.model(ledgers, model)
        found = await queries.versions(ledgers, model, since=None, run_id="")
        return {"versions": [_json(wire.version_message(version)) for version in found]}

    @router.get("/{model}/versions/{version}")
    async def get_version(model: str, version: str) -> dict[str, Any]:
        return _json(wire.version_message(await queries.version(ledgers, model, version)))

    @router.get("/{model}/history")
    async def list_history(
        model: str, limit: Annotated[int, Query(ge=1, le=queries.MOST)] = 100, cursor: str = ""
    ) -> dict[str, Any]:
        page = await queries.history(ledgers, model, limit=limit, cursor=cursor, since=None)
        return {"moves": [_json(wire.move_message(move)) for move in page.moves], "next_cursor": page.next_cursor}


def _writes(router: APIRouter, handlers: Handlers) -> None:
    @router.post("/{model}/promote")
    async def promote(model: str, body: Promotion, who: Principal) -> dict[str, Any]:
        after = await handlers.promote(model, body.version, by=who, reason=body.reason, force=body.force)
        return _json(wire.model_message(after))

    @router.post("/{model}/rollback")
    async def roll_back(model: str, body: Reason, who: Principal) -> dict[str, Any]:
        return _json(wire.model_message(await handlers.roll_back(model, by=who, reason=body.reason)))

    @router.put("/{model}/aliases/{alias}")
    async def set_alias(model: str, alias: str, body: Target, who: Principal) -> dict[str, Any]:
        after = await handlers.set_alias(model, alias, body.version, by=who, reason=body.reason)
        return _json(wire.model_message(after))

    @router.post("/{model}/versions/{version}/approve")
    async def approve(model: str, version: str, body: Verdict, who: Principal) -> dict[str, Any]:
        after = await handlers.approve(model, version, by=who, approved=body.approve, reason=body.reason)
        return _json(wire.version_message(after))


def _rollouts(router: APIRouter, handlers: Handlers) -> None:
    @router.put("/{model}/rollout")
    async def put_rollout(model: str, body: RolloutBody, who: Principal) -> dict[str, Any]:
        return _json(wire.rollout_message(await handlers.put_rollout(model, body.wish(), by=who)))

    @router.delete("/{model}/rollout")
    async def end_rollout(model: str, who: Principal, reason: str = "") -> dict[str, Any]:
        return _json(wire.model_message(await handlers.end_rollout(model, by=who, reason=reason)))


def _json(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
