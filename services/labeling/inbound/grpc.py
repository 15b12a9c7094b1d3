"""`irisloop.labeling.v1.LabelingService`."""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.labeling.v1 import labeling_pb2_grpc

from services.common.errors import InvalidMessage
from services.common.grpc import principal
from services.labeling import codec
from services.labeling.domain.model import Asset, Label, Micros
from services.labeling.domain.ports import AnnotationFilter
from services.labeling.handlers.tasks import Answer
from services.labeling.inbound.calls import Handlers, page_size, page_start, task_message, task_state

Context = grpc.aio.ServicerContext[Any, Any]


class LabelingServicer(labeling_pb2_grpc.LabelingServiceServicer):
    """Decodes, calls a handler, encodes; errors are mapped by the kit's interceptor."""

    def __init__(self, handlers: Handlers) -> None:
        """One set of handlers for all transports."""
        self._handlers = handlers

    async def ImportAnnotations(
        self, request: pb.ImportAnnotationsRequest, context: Context
    ) -> pb.ImportAnnotationsResponse:
        """Bulk import."""
        labels = [_imported(message, place) for place, message in enumerate(request.annotations)]
        created, unchanged = await self._handlers.labels.import_labels(
            request.dataset, tuple(request.class_names), tuple(request.cameras), labels, principal(context)
        )
        return pb.ImportAnnotationsResponse(created=created, unchanged=unchanged)

    async def ConfirmAnnotation(
        self, request: pb.ConfirmAnnotationRequest, context: Context
    ) -> pb.ConfirmAnnotationResponse:
        """A label without a task."""
        annotation = await self._handlers.labels.confirm(
            request.asset_id, codec.labels(request.labels), _optional(request, "valid_from"), principal(context)
        )
        return pb.ConfirmAnnotationResponse(annotation=codec.annotation_message(annotation))

    async def WithdrawAnnotation(
        self, request: pb.WithdrawAnnotationRequest, context: Context
    ) -> pb.WithdrawAnnotationResponse:
        """A label taken back."""
        annotation = await self._handlers.labels.withdraw(request.asset_id, principal(context))
        return pb.WithdrawAnnotationResponse(annotation=codec.annotation_message(annotation))

    async def ListAnnotations(self, request: pb.ListAnnotationsRequest, context: Context) -> pb.ListAnnotationsResponse:
        """A page."""
        chosen = AnnotationFilter(
            request.asset_id,
            request.camera_id,
            _optional(request, "since"),
            request.revisions,
            page_start(request.cursor),
            page_size(request.limit),
        )
        annotations, cursor = await self._handlers.labels.page(chosen)
        return pb.ListAnnotationsResponse(annotations=map(codec.annotation_message, annotations), next_cursor=cursor)

    async def LeaseTasks(self, request: pb.LeaseTasksRequest, context: Context) -> pb.LeaseTasksResponse:
        """The tasks to answer next."""
        tasks = await self._handlers.tasks.lease(
            request.limit, request.lease_seconds, request.dataset, principal(context)
        )
        return pb.LeaseTasksResponse(tasks=map(task_message, tasks))

    async def AnswerTasks(self, request: pb.AnswerTasksRequest, context: Context) -> pb.AnswerTasksResponse:
        """Answers, or skips."""
        answers = [
            Answer(answer.task_id, codec.labels(answer.labels, f"answers[{place}].labels"))
            for place, answer in enumerate(request.answers)
        ]
        annotations = await self._handlers.tasks.answer(answers, principal(context))
        return pb.AnswerTasksResponse(annotations=map(codec.annotation_message, annotations))

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """A page, and the counts of all."""
        state = task_state(request.state) if request.state else None
        tasks, cursor, counts = await self._handlers.tasks.page(
            state, page_start(request.cursor), page_size(request.limit)
        )
        return pb.ListTasksResponse(
            tasks=map(task_message, tasks),
            next_cursor=cursor,
            counts={key.name.lower(): count for key, count in counts.items()},
        )

    async def PutDataset(self, request: pb.PutDatasetRequest, context: Context) -> pb.PutDatasetResponse:
        """Create or change."""
        dataset = await self._handlers.datasets.put(request.name, tuple(request.class_names), tuple(request.cameras))
        return pb.PutDatasetResponse(dataset=codec.dataset_message(dataset))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        """All of them."""
        return pb.ListDatasetsResponse(datasets=map(codec.dataset_message, await self._handlers.datasets.all()))

    async def RequestDatasetVersion(
        self, request: pb.RequestDatasetVersionRequest, context: Context
    ) -> pb.RequestDatasetVersionResponse:
        """At once, or when the labels are there."""
        progress = await self._handlers.versions.request(
            request.request_id,
            request.dataset,
            _optional(request, "labels_since"),
            request.labels_wanted,
            request.model,
            principal(context),
            tuple(request.cameras),
        )
        return pb.RequestDatasetVersionResponse(
            version=codec.version_message(progress.version) if progress.version is not None else None,
            labels_present=progress.labels_present,
            labels_wanted=progress.labels_wanted,
            tasks_open=progress.tasks_open,
        )

    async def CancelDatasetRequest(
        self, request: pb.CancelDatasetRequestRequest, context: Context
    ) -> pb.CancelDatasetRequestResponse:
        """No longer wanted."""
        await self._handlers.versions.cancel(request.request_id)
        return pb.CancelDatasetRequestResponse()

    async def GetDatasetVersion(
        self, request: pb.GetDatasetVersionRequest, context: Context
    ) -> pb.GetDatasetVersionResponse:
        """By number, or the newest."""
        version = await self._handlers.datasets.version(request.dataset, request.version)
        return pb.GetDatasetVersionResponse(version=codec.version_message(version))

    async def ListDatasetVersions(
        self, request: pb.ListDatasetVersionsRequest, context: Context
    ) -> pb.ListDatasetVersionsResponse:
        """All, or those that hold an asset."""
        versions = await self._handlers.datasets.versions(
            request.dataset, request.asset_id, _optional(request, "since")
        )
        return pb.ListDatasetVersionsResponse(versions=map(codec.version_message, versions))


def _imported(message: pb.ImportedLabel, place: int) -> tuple[Asset, tuple[Label, ...]]:
    field = f"annotations[{place}]"
    if not (message.asset_id and message.camera_id and message.object.digest and message.HasField("captured_at")):
        raise InvalidMessage(
            "An imported label needs `asset_id`, `camera_id`, `captured_at` and `object`.", field=field
        )
    labels = codec.labels(message.labels, f"{field}.labels")
    if not labels:
        raise InvalidMessage("An imported label needs a class.", field=f"{field}.labels")
    stored = codec.stored_object(message.object)
    return Asset(message.asset_id, message.camera_id, codec.micros(message.captured_at), stored), labels


def _optional(request: Any, field: str) -> Micros | None:
    stamp: Timestamp = getattr(request, field)
    return codec.micros(stamp) if request.HasField(field) else None
