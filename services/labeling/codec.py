"""Between the contract's messages and labeling's nouns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.serving.v1 import serving_pb2

from services.common.errors import InvalidMessage
from services.labeling.domain.model import (
    Annotation,
    Asset,
    Dataset,
    Draw,
    Label,
    Micros,
    Origin,
    Reference,
    StoredObject,
    Task,
    Version,
)
from services.labeling.domain.probe import Probe, Reading, Tally

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(stamp: Timestamp) -> Micros:
    """Finer digits than microseconds are cut off."""
    return stamp.seconds * 1_000_000 + stamp.nanos // 1_000


def timestamp(at: Micros) -> Timestamp:
    """Exact."""
    return Timestamp(seconds=at // 1_000_000, nanos=at % 1_000_000 * 1_000)


def moment(at: Micros) -> datetime:
    """Aware, UTC."""
    return EPOCH + timedelta(microseconds=at)


def instant(at: datetime) -> Micros:
    """Of an aware datetime."""
    return (at - EPOCH) // timedelta(microseconds=1)


def stored_object(message: ingest_pb2.StoredObject) -> StoredObject:
    """As it stands."""
    return StoredObject(message.digest, message.size_bytes, message.content_type)


def object_message(stored: StoredObject) -> ingest_pb2.StoredObject:
    """As it stands."""
    return ingest_pb2.StoredObject(digest=stored.digest, size_bytes=stored.size_bytes, content_type=stored.content_type)


def asset(message: ingest_pb2.Asset) -> Asset:
    """Raises `InvalidMessage` without the fields that everything hangs on."""
    if not message.id or not message.camera_id or not message.object.digest or not message.HasField("captured_at"):
        raise InvalidMessage("An asset needs `id`, `camera_id`, `captured_at` and `object`.", field="asset")
    return Asset(message.id, message.camera_id, micros(message.captured_at), stored_object(message.object))


def labels(messages: Iterable[pb.Label], field: str = "labels") -> tuple[Label, ...]:
    """Raises `InvalidMessage` for a label without a class or a ring that is none."""
    found = []
    for message in messages:
        if not message.class_name or len(message.class_name) > 128:
            raise InvalidMessage("A label needs a class name of at most 128 characters.", field=f"{field}.class_name")
        box, polygon = None, None
        if message.HasField("box"):
            box = (message.box.x, message.box.y, message.box.width, message.box.height)
            if not (box[2] > 0 and box[3] > 0):
                raise InvalidMessage("A box needs a width and a height above 0.", field=f"{field}.box")
        if message.HasField("polygon"):
            polygon = tuple(message.polygon.points)
            if len(polygon) < 6 or len(polygon) % 2:
                raise InvalidMessage("A polygon needs three points or more, as x and y.", field=f"{field}.polygon")
        found.append(Label(message.class_name, box, polygon))
    return tuple(found)


def label_message(label: Label) -> pb.Label:
    """With its geometry."""
    message = pb.Label(class_name=label.class_name)
    if label.box is not None:
        x, y, width, height = label.box
        message.box.CopyFrom(pb.Box(x=x, y=y, width=width, height=height))
    elif label.polygon is not None:
        message.polygon.points.extend(label.polygon)
    return message


def annotation_message(annotation: Annotation) -> pb.Annotation:
    """One revision."""
    message = pb.Annotation(
        id=annotation.id,
        asset_id=annotation.asset.id,
        camera_id=annotation.asset.camera_id,
        captured_at=timestamp(annotation.asset.captured_at),
        revision=annotation.revision,
        labels=[label_message(label) for label in annotation.labels],
        annotated_by=annotation.annotated_by,
        annotated_at=timestamp(annotation.annotated_at),
        valid_from=timestamp(annotation.valid_from),
        source=pb.AnnotationSource.ValueType(annotation.source),
        task_id=annotation.task_id,
        withdrawn=annotation.withdrawn,
    )
    if annotation.superseded_at is not None:
        message.superseded_at.CopyFrom(timestamp(annotation.superseded_at))
    return message


def draw_message(draw: Draw) -> pb.Draw:
    """Origin and propensity."""
    return pb.Draw(origin=pb.TaskOrigin.ValueType(draw.origin), propensity=draw.propensity)


def reference_message(reference: Reference) -> pb.PredictionReference:
    """As it stands; with the features that it has."""
    message = pb.PredictionReference(
        prediction_id=reference.prediction_id,
        model=reference.model,
        version=reference.version,
        role=reference.role,
        class_name=reference.class_name,
        score=reference.score,
        decision_threshold=reference.decision_threshold,
        detections=[serving_pb2.Detection(**one._asdict()) for one in reference.detections],
    )
    if reference.features:
        message.features.MergeFromString(reference.features)
    return message


def task_message(task: Task, priority: float) -> pb.Task:
    """What a person is shown: nobody can tell a task of a probe from a random one."""
    draw = Draw(Origin.UNIFORM, task.draw.propensity) if task.draw.origin is Origin.PROBE else task.draw
    message = pb.Task(
        id=task.id,
        asset_id=task.asset_id,
        camera_id=task.camera_id,
        captured_at=timestamp(task.captured_at),
        state=pb.TaskState.ValueType(task.state),
        draw=draw_message(draw),
        priority=priority,
        class_names=task.class_names,
        created_at=timestamp(task.created_at),
        leased_by=task.leased_by,
        dataset=task.dataset,
    )
    if task.suggestion is not None and draw.origin is not Origin.UNIFORM:
        message.suggestion.CopyFrom(reference_message(task.suggestion))
    if task.leased_until:
        message.leased_until.CopyFrom(timestamp(task.leased_until))
    if task.object is not None:
        message.object.CopyFrom(object_message(task.object))
    return message


def dataset_message(dataset: Dataset) -> pb.Dataset:
    """As it stands."""
    return pb.Dataset(
        name=dataset.name,
        class_names=dataset.class_names,
        cameras=dataset.cameras,
        created_at=timestamp(dataset.created_at),
    )


def version_message(version: Version) -> pb.DatasetVersion:
    """With the splits in the order train, validation, test."""
    message = pb.DatasetVersion(
        dataset=version.dataset,
        version=version.number,
        digest=version.digest,
        manifest=object_message(version.manifest),
        class_names=version.class_names,
        classes=version.classes,
        superseded_left_out=version.superseded_left_out,
        created_at=timestamp(version.created_at),
        created_by=version.created_by,
        request_id=version.request_id,
        condition_labels=version.condition_labels,
        forgotten=version.forgotten,
    )
    for split in ("train", "validation", "test"):
        message.splits.add(split=split, assets=version.splits.get(split, 0))
    if version.condition_since is not None:
        message.condition_since.CopyFrom(timestamp(version.condition_since))
    return message


def again_message(probe: Probe, reading: Reading) -> pb.ProbeAnswered:
    """An old asset answered again."""
    return pb.ProbeAnswered(
        probe_id=probe.id,
        model=probe.model,
        incident_id=probe.incident_id,
        asset_id=reading.asset_id,
        camera_id=reading.camera_id,
        captured_at=timestamp(reading.captured_at),
        class_before=reading.class_before,
        class_now=reading.class_now,
        annotated_before_by=reading.annotated_before_by,
        annotated_now_by=reading.annotated_now_by,
        annotated_before_at=timestamp(reading.annotated_before_at),
        annotated_now_at=timestamp(reading.annotated_now_at),
        propensity=reading.propensity,
        revision=reading.revision,
    )


def ended_message(probe: Probe, tally: Tally, at: Micros) -> pb.ProbeEnded:
    """A probe that is over."""
    return pb.ProbeEnded(
        probe_id=probe.id,
        model=probe.model,
        incident_id=probe.incident_id,
        reason=pb.ProbeEnd.ValueType(probe.ended or 0),
        drawn=probe.drawn,
        answered=tally.answered,
        skipped=tally.skipped,
        deleted=tally.deleted,
        ended_at=timestamp(at),
    )
