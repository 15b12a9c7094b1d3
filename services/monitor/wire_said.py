"""What the monitor said, read back from its own topics: the inverse of `wire.event_of`."""

from __future__ import annotations

from math import inf
from typing import Any

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.bus import Delivery
from services.monitor.domain.events import (
    Alert,
    CameraFault,
    Cause,
    DriftFound,
    Evidence,
    Finding,
    Happening,
    Harm,
    Incident,
    Numbers,
    Outlook,
    Recurrence,
    Refusal,
    Regain,
    Request,
    Risk,
    Scope,
    Shape,
    State,
)
from services.monitor.wire import seconds
from services.monitor.wire_probe import request_of, word_of


def finding_of(delivery: Delivery[Any]) -> Finding | None:
    """A drift, an alert, a request, a refusal or a probe asked for; None for anything else."""
    value, at, trace = delivery.value, delivery.ce_time.timestamp(), delivery.traceparent
    match value:
        case pb.DriftDetected():
            return DriftFound(at, trace, incident_of(value.incident), value.revision)
        case pb.AlertRaised():
            return Alert(at, trace, value.id, value.model, value.incident_id, value.severity, value.summary, value.kind)
        case pb.RetrainRequested():
            return _request(value, trace)
        case pb.RetrainDeclined():
            said = seconds(value.declined_at)
            return Refusal(said, trace, value.id, value.model, value.incident_id, value.reason, _numbers(value))
        case pb.ProbeRequested():
            return request_of(value, trace)
    return None


def _request(value: pb.RetrainRequested, trace: str) -> Request:
    return Request(
        at=seconds(value.requested_at),
        traceparent=trace,
        id=value.request_id,
        model=value.model,
        version=value.version,
        incident_id=value.incident_id,
        labels_since=seconds(value.labels_since),
        labels_wanted=value.labels_wanted,
        expires_at=seconds(value.expires_at),
        reason=value.reason,
        class_names=tuple(value.class_names),
        cameras=tuple(value.cameras),
        numbers=_numbers(value),
    )


def _numbers(value: pb.RetrainRequested | pb.RetrainDeclined) -> Numbers | None:
    if not value.HasField("numbers"):
        return None
    return Numbers(**{field.name: getattr(value.numbers, field.name) for field in value.numbers.DESCRIPTOR.fields})


def incident_of(m: pb.Incident) -> Incident:
    """The inverse of `wire.incident_message`."""
    r = m.risk
    return Incident(
        id=m.id,
        model=m.model,
        version=m.version,
        state=State(m.state),
        cause=Cause(m.cause),
        harm=Harm(m.harm or Harm.UNKNOWN),
        shape=Shape(m.shape),
        began_at=seconds(m.began_at),
        detected_at=seconds(m.detected_at),
        level_since=seconds(m.level_since),
        cameras=tuple(m.cameras),
        class_names=tuple(m.class_names),
        evidence=tuple(_evidence(e) for e in m.evidence),
        risk=Risk(
            r.baseline_error, r.baseline_labels, r.current_error,
            r.current_error_low, r.current_error_high, r.current_labels,
        ) if m.HasField("risk") else None,
        closed_at=seconds(m.closed_at),
        trigger_asset_id=m.trigger_asset_id,
        scope=_scope(m.scope),
        acknowledged_at=seconds(m.acknowledged_at),
        acknowledged_by=m.acknowledged_by,
        muted_until=(seconds(m.muted_until) or inf) if m.muted else 0.0,
        plan_id=m.plan_id,
        history=tuple(Happening(seconds(h.at), h.what, h.by, h.why) for h in m.history),
        faults=tuple(
            CameraFault(f.camera_id, f.kind, seconds(f.since), f.before_asset_id, f.after_asset_id) for f in m.faults
        ),
        probe=word_of(m.probe) if m.HasField("probe") else None,
        regain=_regain(m.regain) if m.HasField("regain") else None,
        recurs=_recurrence(m.recurs) if m.HasField("recurs") else None,
    )  # fmt: skip


def _regain(r: pb.TrainingRegain) -> Regain:
    return Regain(Outlook(r.outlook), r.share, r.share_low, r.share_high, r.labels, r.by)


def _recurrence(r: pb.IncidentRecurrence) -> Recurrence:
    return Recurrence(r.incident_id, seconds(r.incident_began_at), r.stored_version, seconds(r.stored_until))


def _scope(s: pb.IncidentScope) -> Scope:
    return Scope(s.kind, s.value, s.inside, s.inside_touched, s.outside, s.outside_touched)


def _evidence(e: pb.ChannelEvidence) -> Evidence:
    return Evidence(**{field.name: getattr(e, field.name) for field in e.DESCRIPTOR.fields})
