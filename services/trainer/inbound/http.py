"""Trainer for people and scripts: `/api/v1/runs`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, Field

from services.common.http import Principal
from services.trainer import queries, wire
from services.trainer.domain.runs import Run
from services.trainer.handlers import MOST_EPOCHS, MOST_SEED, Handlers, Order


class NewRun(BaseModel):
    """What to train on; 0 takes the default of each number."""

    model: str = Field(min_length=1, max_length=128)
    dataset: str = Field(min_length=1, max_length=128)
    dataset_version: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    epochs: int = Field(default=0, ge=0, le=MOST_EPOCHS)
    request_id: str = Field(default="", max_length=128)
    from_scratch: bool = False


def routes(handlers: Handlers) -> APIRouter:
    """The router; bodies are the contracts' messages as JSON (snake_case)."""
    router = APIRouter(prefix="/api/v1/runs", tags=["runs"])

    @router.post("", status_code=202)
    async def start_run(body: NewRun, who: Principal) -> dict[str, Any]:
        return _json(await handlers.start_run(Order(**body.model_dump(), requested_by=who)))

    @router.get("")
    async def list_runs(
        model: str = "", dataset: str = "", limit: Annotated[int, Query(ge=1, le=queries.MOST)] = 100, cursor: str = ""
    ) -> dict[str, Any]:
        page = await queries.runs(handlers.books, model=model, dataset=dataset, since=None, limit=limit, cursor=cursor)
        return {"runs": [_json(run) for run in page.runs], "next_cursor": page.next_cursor}

    @router.get("/{run_id}")
    async def get_run(run_id: str) -> dict[str, Any]:
        return _json(await queries.run(handlers.books, run_id))

    @router.post("/{run_id}/cancel")
    async def cancel_run(run_id: str) -> dict[str, Any]:
        return _json(await handlers.cancel_run(run_id))

    return router


def _json(run: Run) -> dict[str, Any]:
    return MessageToDict(
        wire.run_message(run), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
