"""Brings labelled images in: frames by HTTP to ingest, their labels by gRPC to labeling, a batch of both at a time.

The ids of the frames derive from name, path and content, so that an import that broke off is simply run again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services.common.errors import IrisloopError, Unavailable
from services.local.labelled import LabelledImage

if TYPE_CHECKING:
    import httpx
    from irisloop.labeling.v1 import labeling_pb2

__all__ = ["ImportReport", "LabelledImage", "import_labelled"]

BATCH_FILES: Final = 400
BATCH_BYTES: Final = 24 << 20
IN_FLIGHT: Final = 3
TIMEOUT_S: Final = 60.0
PATIENCE_S: Final = 60.0
RETRY_S: Final = 0.5


@dataclass(slots=True)
class ImportReport:
    """What became of the images; `statuses` counts ingest's words: stored, duplicate, redelivered, rejected."""

    statuses: Counter[str] = field(default_factory=Counter)
    labels_created: int = 0
    labels_unchanged: int = 0
    rejected: list[str] = field(default_factory=list)
    """The first refused files, each with the reason."""

    @property
    def images(self) -> int:
        """How many images were answered for."""
        return sum(self.statuses.values())


async def import_labelled(
    items: Iterable[LabelledImage],
    *,
    name: str,
    dataset: str,
    class_names: Sequence[str],
    ingest_url: str,
    labeling_address: str,
    cameras: Sequence[str] = (),
    on_progress: Callable[[int], None] = lambda _: None,
) -> ImportReport:
    """Import images as camera `import/<name>` and their labels into `dataset`, which is made when it is missing.

    `cameras` (ids with * and ?) are those of the dataset when it is made; all cameras when empty.
    `on_progress` is told how many images are done. A service that is briefly away is waited for; raises `Unavailable`
    when it stays away, and the service's own error when it refuses the whole.
    """
    import httpx
    from irisloop.labeling.v1 import labeling_pb2_grpc

    from services.common.grpc import channel

    async with (
        httpx.AsyncClient(base_url=ingest_url, timeout=TIMEOUT_S, trust_env=False) as client,
        channel(labeling_address) as opened,
    ):
        labeling = labeling_pb2_grpc.LabelingServiceStub(opened)
        work = _Import(client, labeling, name, dataset, tuple(class_names), tuple(cameras), on_progress)
        await work.run(items)
    return work.report


class _Import:
    """One import under way."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        labeling: Any,
        name: str,
        dataset: str,
        class_names: Sequence[str],
        cameras: Sequence[str],
        on_progress: Callable[[int], None],
    ) -> None:
        self.report = ImportReport()
        self._client = client
        self._labeling = labeling
        self._name = name
        self._camera = f"import/{name}"
        self._dataset = dataset
        self._class_names = class_names
        self._cameras = cameras
        self._on_progress = on_progress

    async def run(self, items: Iterable[LabelledImage]) -> None:
        """Keep a few batches in flight; reading waits for them."""
        free = asyncio.Semaphore(IN_FLIGHT)
        batches = _batches(items)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await free.acquire()
                    batch = await asyncio.to_thread(next, batches, None)
                    if batch is None:
                        return
                    group.create_task(self._import(batch)).add_done_callback(lambda _: free.release())
        except* IrisloopError as errors:
            raise _first(errors) from None

    async def _import(self, batch: Sequence[LabelledImage]) -> None:
        results = await self._post_frames(batch)
        for image, result in zip(batch, results, strict=True):
            self.report.statuses[result["status"]] += 1
            if result["status"] == "rejected" and len(self.report.rejected) < 20:
                self.report.rejected.append(f"{image.path}: {result['reason']} {result['detail']}".strip())
        await self._post_labels(batch, results)
        self._on_progress(self.report.images)

    async def _post_frames(self, batch: Sequence[LabelledImage]) -> list[dict[str, Any]]:
        form = {"camera_id": self._camera, "ce_id": [frame_id(self._name, image) for image in batch]}
        files = [("files", (image.path.rpartition("/")[2], image.content, image.content_type)) for image in batch]

        async def attempt() -> list[dict[str, Any]]:
            import httpx

            try:
                response = await self._client.post("/api/v1/frames", data=form, files=files)
            except httpx.TransportError as error:
                raise Unavailable(f"ingest does not answer at {self._client.base_url}") from error
            return _results(response)

        results: list[dict[str, Any]] = await _patiently(attempt)
        return results

    async def _post_labels(self, batch: Sequence[LabelledImage], results: Sequence[dict[str, Any]]) -> None:
        from irisloop.labeling.v1 import labeling_pb2

        from services.common.grpc import call

        annotations = [
            self._annotation(image, result)
            for image, result in zip(batch, results, strict=True)
            if result["status"] != "rejected" and (image.class_name or image.boxes)
        ]
        if not annotations:
            return
        request = labeling_pb2.ImportAnnotationsRequest(
            dataset=self._dataset,
            class_names=self._class_names,
            cameras=self._cameras,
            annotations=annotations,
        )
        answer = await _patiently(lambda: call(self._labeling.ImportAnnotations, request, timeout_s=TIMEOUT_S))
        self.report.labels_created += answer.created
        self.report.labels_unchanged += answer.unchanged

    def _annotation(self, image: LabelledImage, result: dict[str, Any]) -> labeling_pb2.ImportedLabel:
        from datetime import datetime

        from irisloop.labeling.v1 import labeling_pb2

        whole = [labeling_pb2.Label(class_name=image.class_name)] * bool(image.class_name)
        boxes = [
            labeling_pb2.Label(
                class_name=box.class_name,
                box=labeling_pb2.Box(x=box.x, y=box.y, width=box.width, height=box.height),
            )
            for box in image.boxes
        ]
        annotation = labeling_pb2.ImportedLabel(asset_id=result["id"], camera_id=self._camera, labels=[*whole, *boxes])
        annotation.captured_at.FromDatetime(datetime.fromisoformat(result["captured_at"]))
        annotation.object.digest = result["object_digest"]
        annotation.object.size_bytes = len(image.content)
        annotation.object.content_type = image.content_type
        return annotation


def frame_id(name: str, image: LabelledImage) -> str:
    """The frame's ce_id: the same for the same bytes under the same path of the same import."""
    content = hashlib.sha256(image.content).hexdigest()
    return "import-" + hashlib.sha256("\0".join((name, image.path, content)).encode()).hexdigest()[:40]


def _batches(items: Iterable[LabelledImage]) -> Iterator[list[LabelledImage]]:
    batch: list[LabelledImage] = []
    size = 0
    for item in items:
        if batch and (len(batch) >= BATCH_FILES or size + len(item.content) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.content)
    if batch:
        yield batch


def _results(response: httpx.Response) -> list[dict[str, Any]]:
    if response.is_success:
        results: list[dict[str, Any]] = response.json()["results"]
        return results
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"ingest answers {response.status_code}"
    raise Unavailable(message) if response.status_code in (429, 502, 503, 504) else IrisloopError(message)


async def _patiently(attempt: Callable[[], Any]) -> Any:
    """Try again while a service is away or too busy; each try repeats the same ids, so that nothing doubles."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await attempt()
        except Unavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(RETRY_S)


def _first(errors: BaseExceptionGroup[IrisloopError]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
