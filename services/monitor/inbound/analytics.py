"""Everything that is worth a query later, into tables: predictions, labels, drifts, rejections, decisions, alerts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import (
    ALERT_RAISED,
    ANNOTATION_CONFIRMED,
    DRIFT_DETECTED,
    FRAME_REJECTED,
    PREDICTION_MADE,
    RETRAIN_DECLINED,
    RETRAIN_REQUESTED,
)

from services.common.bus import Bus, Delivery, Subscription, Topic
from services.monitor import wire
from services.monitor.domain.channels import FEATURES
from services.monitor.domain.tables import (
    ALERTS,
    ANNOTATIONS,
    DECISIONS,
    DRIFTS,
    PREDICTIONS,
    REJECTIONS,
    Rows,
    Table,
    Warehouse,
)
from services.monitor.errors import GAP_ADVICE

_BATCH: Final = 2000
_LINGER_MS: Final = 1000  # ClickHouse wants few inserts of many rows.


def subscribe(bus: Bus, warehouse: Warehouse) -> None:
    """Declare what analytics hear: each batch of a partition is one insert, trimmed by what is there already."""
    for topic, handler, table, row in stored():
        store = _storer(warehouse, table, row)
        bus.subscribe(
            Subscription(topic, handler, store, max_batch=_BATCH, linger_ms=_LINGER_MS, gap_advice=GAP_ADVICE)
        )


def stored() -> tuple[tuple[Topic[Any], str, Table, Callable[[Any, datetime], tuple[Any, ...]]], ...]:
    """Which topic goes into which table: (topic, handler, table, a message and its time as the columns' values)."""
    return (
        (PREDICTION_MADE, "store-predictions", PREDICTIONS, _prediction),
        (ANNOTATION_CONFIRMED, "store-annotations", ANNOTATIONS, _annotation),
        (DRIFT_DETECTED, "store-drifts", DRIFTS, _drift),
        (RETRAIN_REQUESTED, "store-requests", DECISIONS, _request),
        (RETRAIN_DECLINED, "store-refusals", DECISIONS, _refusal),
        (FRAME_REJECTED, "store-rejections", REJECTIONS, _rejection),
        (ALERT_RAISED, "store-alerts", ALERTS, _alert),
    )


def _storer(warehouse: Warehouse, table: Table, row: Callable[[Any, datetime], tuple[Any, ...]]) -> Callable[..., Any]:
    async def store(batch: Sequence[Delivery[Any]]) -> None:
        first = batch[0].record
        offsets = [d.record.offset for d in batch]
        columns = list(zip(*(row(d.value, d.ce_time) for d in batch), strict=True))
        await warehouse.insert(Rows(table, first.topic, first.partition, offsets, columns))

    return store


def _micros(stamp: Any) -> int:
    return int(stamp.seconds * 1_000_000 + stamp.nanos // 1000)


def _prediction(value: serving_pb2.PredictionMade, _: datetime) -> tuple[Any, ...]:
    p = value.prediction
    best = p.scores[0] if p.scores else serving_pb2.Score()
    return (
        p.id, p.asset_id, p.camera_id, p.model, p.version, p.role, _micros(p.captured_at), _micros(p.predicted_at),
        p.latency_ms, best.class_name, best.score, p.replica, p.error, int(p.historical), *wire.features_of(p.features),
    )  # fmt: skip


def _annotation(value: labeling_pb2.AnnotationConfirmed, _: datetime) -> tuple[Any, ...]:
    a = value.annotation
    name = a.labels[0].class_name if a.labels else ""
    return (
        a.id, a.asset_id, a.camera_id, _micros(a.captured_at), _micros(a.annotated_at), a.revision, name,
        a.annotated_by,
        labeling_pb2.AnnotationSource.Name(a.source).removeprefix("ANNOTATION_SOURCE_").lower(),
        labeling_pb2.TaskOrigin.Name(value.draw.origin).removeprefix("TASK_ORIGIN_").lower(),
        value.draw.propensity, [p.prediction_id for p in value.predictions],
    )  # fmt: skip


def _drift(value: monitor_pb2.DriftDetected, _: datetime) -> tuple[Any, ...]:
    i = value.incident
    return (
        i.id, value.revision, i.model, i.version,
        monitor_pb2.MonitorState.Name(i.state).removeprefix("MONITOR_STATE_").lower(),
        monitor_pb2.DriftCause.Name(i.cause).removeprefix("DRIFT_CAUSE_").lower(),
        monitor_pb2.DriftHarm.Name(i.harm).removeprefix("DRIFT_HARM_").lower(),
        monitor_pb2.DriftShape.Name(i.shape).removeprefix("DRIFT_SHAPE_").lower(),
        _micros(i.began_at), _micros(i.detected_at), _micros(i.level_since), _micros(i.closed_at), list(i.cameras),
        list(i.class_names), i.risk.baseline_error, i.risk.current_error, i.risk.current_labels,
    )  # fmt: skip


def _request(value: monitor_pb2.RetrainRequested, _: datetime) -> tuple[Any, ...]:
    return (
        value.request_id, value.model, value.incident_id, "requested", value.reason, _micros(value.requested_at),
        _micros(value.labels_since), value.labels_wanted,
    )  # fmt: skip


def _refusal(value: monitor_pb2.RetrainDeclined, _: datetime) -> tuple[Any, ...]:
    return value.id, value.model, value.incident_id, "declined", value.reason, _micros(value.declined_at), 0, 0


def _rejection(value: ingest_pb2.FrameRejected, _: datetime) -> tuple[Any, ...]:
    r = value.rejection
    reason = ingest_pb2.RejectionReason.Name(r.reason).removeprefix("REJECTION_REASON_").lower()
    return (
        r.id,
        r.camera_id,
        _micros(r.captured_at),
        _micros(r.rejected_at),
        reason,
        r.detail,
        r.object.digest,
        r.origin,
    )


def _alert(value: monitor_pb2.AlertRaised, raised_at: datetime) -> tuple[Any, ...]:
    return value.id, value.model, value.incident_id, value.severity, value.summary, int(raised_at.timestamp() * 1e6)


assert len(FEATURES) + 14 == len(PREDICTIONS.columns)
