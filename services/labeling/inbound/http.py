"""Labeling for people and scripts: tasks, annotations, datasets and versions under `/api/v1`.

The same handlers as by gRPC, and answers in the form of the contract's messages.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from irisloop.labeling.v1 import labeling_pb2 as pb
from pydantic import AwareDatetime, BaseModel, Field

from services.common.http import Principal
from services.labeling import codec
from services.labeling.domain.model import Label
from services.labeling.domain.ports import AnnotationFilter
from services.labeling.handlers.tasks import Answer
from services.labeling.inbound.calls import Handlers, page_start, task_message, task_state

Limit = Annotated[int, Query(ge=1, le=1_000)]


class LabelBody(BaseModel):
    """A class, of the whole image or of a box or ring in pixels."""

    class_name: str = Field(min_length=1, max_length=128)
    box: tuple[float, float, float, float] | None = Field(default=None, description="x, y, width, height")
    polygon: list[float] | None = Field(default=None, description="x0, y0, x1, y1, ...")

    def label(self) -> Label:
        """Checked as the contract's message is."""
        message = pb.Label(class_name=self.class_name)
        if self.box is not None:
            x, y, width, height = self.box
            message.box.CopyFrom(pb.Box(x=x, y=y, width=width, height=height))
        elif self.polygon is not None:
            message.polygon.points.extend(self.polygon)
        return codec.labels([message])[0]


class LeaseBody(BaseModel):
    """How many tasks, for how long."""

    limit: int = Field(default=1, ge=1, le=100)
    lease_seconds: int = Field(default=300, ge=1, le=86_400)
    dataset: str = ""


class AnswerBody(BaseModel):
    """Labels answer the task; without any it is skipped."""

    task_id: str
    labels: list[LabelBody] = []

    def answer(self) -> Answer:
        """For the handler."""
        return Answer(self.task_id, tuple(label.label() for label in self.labels))


class AnswersBody(BaseModel):
    """Several at once."""

    answers: list[AnswerBody] = Field(max_length=1_000)


class AnnotationBody(BaseModel):
    """A label given without a task."""

    asset_id: str
    labels: list[LabelBody] = Field(min_length=1, max_length=1_000)
    valid_from: AwareDatetime | None = None


class DatasetBody(BaseModel):
    """Classes in the order of a model's outputs; camera ids with * and ?, all when empty."""

    class_names: list[str] = Field(min_length=1)
    cameras: list[str] = []


class VersionBody(BaseModel):
    """Asks for a version, once for each id."""

    request_id: str = Field(min_length=1, max_length=128)
    labels_since: AwareDatetime | None = None
    labels_wanted: int = Field(default=0, ge=0)
    model: str = ""
    cameras: list[str] = []


def routes(handlers: Handlers) -> APIRouter:
    """Everything under /api/v1."""
    router = APIRouter(prefix="/api/v1")
    _tasks(router, handlers)
    _annotations(router, handlers)
    _datasets(router, handlers)
    _versions(router, handlers)
    return router


def _tasks(router: APIRouter, handlers: Handlers) -> None:
    @router.get("/tasks")
    async def list_tasks(state: str = "", limit: Limit = 100, cursor: str = "") -> dict[str, Any]:
        chosen = task_state(state) if state else None
        tasks, following, counts = await handlers.tasks.page(chosen, page_start(cursor), limit)
        return {
            "tasks": [_json(task_message(task)) for task in tasks],
            "next_cursor": following,
            "counts": {key.name.lower(): count for key, count in counts.items()},
        }

    @router.post("/tasks/lease")
    async def lease(body: LeaseBody, who: Principal) -> dict[str, Any]:
        tasks = await handlers.tasks.lease(body.limit, body.lease_seconds, body.dataset, who)
        return {"tasks": [_json(task_message(task)) for task in tasks]}

    @router.post("/tasks/answers")
    async def answer(body: AnswersBody, who: Principal) -> dict[str, Any]:
        annotations = await handlers.tasks.answer([one.answer() for one in body.answers], who)
        return {"annotations": [_json(codec.annotation_message(one)) for one in annotations]}


def _annotations(router: APIRouter, handlers: Handlers) -> None:
    @router.get("/annotations")
    async def list_annotations(
        asset_id: str = "",
        camera_id: str = "",
        since: AwareDatetime | None = None,
        revisions: bool = False,
        limit: Limit = 100,
        cursor: str = "",
    ) -> dict[str, Any]:
        chosen = AnnotationFilter(asset_id, camera_id, _micros(since), revisions, page_start(cursor), limit)
        annotations, following = await handlers.labels.page(chosen)
        return {
            "annotations": [_json(codec.annotation_message(annotation)) for annotation in annotations],
            "next_cursor": following,
        }

    @router.post("/annotations")
    async def confirm(body: AnnotationBody, who: Principal) -> dict[str, Any]:
        labels = tuple(label.label() for label in body.labels)
        annotation = await handlers.labels.confirm(body.asset_id, labels, _micros(body.valid_from), who)
        return _json(codec.annotation_message(annotation))

    @router.delete("/annotations/{asset_id:path}")
    async def withdraw(asset_id: str, who: Principal) -> dict[str, Any]:
        return _json(codec.annotation_message(await handlers.labels.withdraw(asset_id, who)))


def _datasets(router: APIRouter, handlers: Handlers) -> None:
    @router.get("/datasets")
    async def list_datasets() -> dict[str, Any]:
        return {"datasets": [_json(codec.dataset_message(one)) for one in await handlers.datasets.all()]}

    @router.put("/datasets/{name}")
    async def put_dataset(name: str, body: DatasetBody) -> dict[str, Any]:
        dataset = await handlers.datasets.put(name, tuple(body.class_names), tuple(body.cameras))
        return _json(codec.dataset_message(dataset))


def _versions(router: APIRouter, handlers: Handlers) -> None:
    @router.get("/versions")
    async def list_versions(
        dataset: str = "", asset_id: str = "", since: AwareDatetime | None = None
    ) -> dict[str, Any]:
        versions = await handlers.datasets.versions(dataset, asset_id, _micros(since))
        return {"versions": [_json(codec.version_message(one)) for one in versions]}

    @router.get("/datasets/{name}/versions/{version}")
    async def get_version(name: str, version: int) -> dict[str, Any]:
        return _json(codec.version_message(await handlers.datasets.version(name, version)))

    @router.post("/datasets/{name}/versions")
    async def request_version(name: str, body: VersionBody, who: Principal) -> dict[str, Any]:
        progress = await handlers.versions.request(
            body.request_id,
            name,
            _micros(body.labels_since),
            body.labels_wanted,
            body.model,
            who,
            tuple(body.cameras),
        )
        return {
            "version": _json(codec.version_message(progress.version)) if progress.version is not None else None,
            "labels_present": progress.labels_present,
            "labels_wanted": progress.labels_wanted,
            "tasks_open": progress.tasks_open,
        }

    @router.delete("/requests/{request_id}")
    async def cancel(request_id: str) -> dict[str, str]:
        await handlers.versions.cancel(request_id)
        return {"request_id": request_id}


def _micros(at: datetime | None) -> int | None:
    return codec.instant(at) if at is not None else None


def _json(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
