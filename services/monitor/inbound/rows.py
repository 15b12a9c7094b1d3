"""Messages as rows: the values of a table's columns in order, times as microseconds since 1970 (0 without one)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.serving.v1 import serving_pb2

from services.monitor import wire, wire_fleet, wire_quality
from services.monitor.domain.tables import DECISIONS

_NUMBERS = [name.removeprefix("numbers_") for name in DECISIONS.names if name.startswith("numbers_")]


def micros(stamp: Any) -> int:
    """A protobuf timestamp in microseconds since 1970."""
    return int(stamp.seconds * 1_000_000 + stamp.nanos // 1000)


def prediction(value: serving_pb2.PredictionMade, _: datetime) -> tuple[Any, ...]:
    """A row of `predictions`."""
    p = value.prediction
    best = p.scores[0] if p.scores else serving_pb2.Score()
    return (
        p.id, p.asset_id, p.camera_id, p.model, p.version, p.role, micros(p.captured_at), micros(p.predicted_at),
        p.latency_ms, best.class_name, best.score, p.replica, p.error, int(p.historical), *wire.features_of(p.features),
    )  # fmt: skip


def annotation(value: labeling_pb2.AnnotationConfirmed, _: datetime) -> tuple[Any, ...]:
    """A row of `annotations`."""
    a = value.annotation
    boxes = any(p.HasField("decision_threshold") for p in value.predictions)  # They are compared as `Quality` does.
    name = "" if boxes else wire_quality.class_of(a)
    return (
        a.id, a.asset_id, a.camera_id, micros(a.captured_at), micros(a.annotated_at), a.revision, name,
        a.annotated_by, _word(labeling_pb2.AnnotationSource, a.source),
        _word(labeling_pb2.TaskOrigin, value.draw.origin), value.draw.propensity,
        [p.prediction_id for p in value.predictions],
        *_columns(value.predictions, "model", "version", "role", "class_name", "score"),
    )  # fmt: skip


def drift(value: pb.DriftDetected, _: datetime) -> tuple[Any, ...]:
    """A row of `drifts`."""
    i = value.incident
    return (
        i.id, value.revision, i.model, i.version, _word(pb.MonitorState, i.state), _word(pb.DriftCause, i.cause),
        _word(pb.DriftHarm, i.harm), _word(pb.DriftShape, i.shape), micros(i.began_at), micros(i.detected_at),
        micros(i.level_since), micros(i.closed_at), list(i.cameras), list(i.class_names), i.risk.baseline_error,
        i.risk.current_error, i.risk.current_labels, i.risk.baseline_labels, i.risk.current_error_low,
        i.risk.current_error_high, i.trigger_asset_id, i.scope.kind, i.scope.value, i.scope.inside,
        i.scope.inside_touched, i.scope.outside, i.scope.outside_touched, micros(i.acknowledged_at), i.acknowledged_by,
        int(i.muted), micros(i.muted_until), i.plan_id, *_columns(i.history, "at", "what", "by", "why"),
        *_columns(i.faults, "camera_id", "kind", "since", "before_asset_id", "after_asset_id"),
        *_columns(i.evidence, "channel", "camera_id", "detector", "statistic", "threshold", "reference_mean",
                  "current_mean", "shift_sigma"),
        *_probe(i), *_regain(i), *_recurrence(i),
    )  # fmt: skip


def _probe(incident: pb.Incident) -> tuple[Any, ...]:
    p = incident.probe
    verdict = _word(pb.ProbeVerdict, p.verdict) if incident.HasField("probe") else ""
    counts = (p.suspected, p.suspected_changed, p.others, p.others_changed)
    return p.id, verdict, *counts, p.annotator, p.why, micros(p.asked_at), micros(p.until)


def _regain(incident: pb.Incident) -> tuple[Any, ...]:
    r = incident.regain
    outlook = _word(pb.TrainingOutlook, r.outlook) if incident.HasField("regain") else ""
    return outlook, r.share, r.share_low, r.share_high, r.labels, r.by


def _recurrence(incident: pb.Incident) -> tuple[Any, ...]:
    r = incident.recurs
    return r.incident_id, micros(r.incident_began_at), r.stored_version, micros(r.stored_until)


def request(value: pb.RetrainRequested, _: datetime) -> tuple[Any, ...]:
    """A row of `decisions`."""
    return (
        value.request_id, value.model, value.incident_id, "requested", value.reason, micros(value.requested_at),
        micros(value.labels_since), value.labels_wanted, value.version, micros(value.expires_at), list(value.cameras),
        list(value.class_names), *_weighed(value),
    )  # fmt: skip


def refusal(value: pb.RetrainDeclined, _: datetime) -> tuple[Any, ...]:
    """A row of `decisions`."""
    at = micros(value.declined_at)
    said = (value.id, value.model, value.incident_id, "declined", value.reason, at)
    return *said, 0, 0, "", 0, [], [], *_weighed(value)


def rejection(value: ingest_pb2.FrameRejected, _: datetime) -> tuple[Any, ...]:
    """A row of `rejections`."""
    r = value.rejection
    return (
        r.id, r.camera_id, micros(r.captured_at), micros(r.rejected_at), _word(ingest_pb2.RejectionReason, r.reason),
        r.detail, r.object.digest, r.origin,
    )  # fmt: skip


def alert(value: pb.AlertRaised, raised_at: datetime) -> tuple[Any, ...]:
    """A row of `alerts`."""
    at = int(raised_at.timestamp() * 1e6)
    return value.id, value.model, value.incident_id, value.severity, value.summary, at, value.kind


def command(value: pb.CommandGiven, given_at: datetime) -> tuple[Any, ...]:
    """A row of `commands`."""
    at = micros(value.given_at) or int(given_at.timestamp() * 1e6)
    kind = value.WhichOneof("command") or ""
    labels = sorted(value.plan.labels.items())
    ends = value.mute.until if kind == "mute" else value.plan.ends_at
    lost = wire_fleet.gaps_in_words(value.accept_gaps) if kind == "accept_gaps" else ""
    return (
        value.id, kind, value.by, "; ".join(filter(None, (value.why, lost))), at, "",
        value.acknowledge.incident_id or value.mute.incident_id,
        value.plan.plan_id or value.cancel.plan_id, micros(value.plan.starts_at), micros(ends),
        list(value.plan.cameras), [name for name, _ in labels], [said for _, said in labels],
    )  # fmt: skip


def answer(value: pb.RetrainAnswered, given_at: datetime) -> tuple[Any, ...]:
    """A row of `commands`: what somebody said to a retraining that waited for it."""
    at = micros(value.answered_at) or int(given_at.timestamp() * 1e6)
    kind = "approve" if value.approved else "refuse"
    said = (value.id, kind, value.answered_by, value.reason, at, value.model, value.incident_id)
    return *said, "", 0, 0, [], [], []


def _weighed(value: pb.RetrainRequested | pb.RetrainDeclined) -> tuple[Any, ...]:
    return int(value.HasField("numbers")), *(getattr(value.numbers, name) for name in _NUMBERS)


def _columns(messages: Any, *names: str) -> list[list[Any]]:
    """Each of these fields as a list."""
    return [[_plain(getattr(message, name)) for message in messages] for name in names]


def _plain(value: Any) -> Any:
    return micros(value) if isinstance(value, Timestamp) else value


def _word(kind: Any, number: int) -> str:
    """An enum's value without its prefix, as `crossed` of DRIFT_HARM_CROSSED."""
    return str(kind.Name(number).removeprefix(_prefix(kind)).lower())


def _prefix(kind: Any) -> str:
    return str(kind.Name(0).removesuffix("UNSPECIFIED"))
