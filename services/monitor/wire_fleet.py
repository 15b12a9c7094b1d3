"""Between the contracts' messages and the fleet's words: cameras, commands, plans, scopes and assessments."""

from __future__ import annotations

from math import isinf
from typing import Any

from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import CAMERA_ASSESSED, COMMAND_GIVEN

from services.common.bus import Delivery, Event
from services.common.errors import InvalidMessage
from services.monitor.domain.events import Assessed, Evidence, Happening, Incident, Scope
from services.monitor.domain.fleet.board import Plan
from services.monitor.domain.inputs import CameraKnown, Commanded, Order
from services.monitor.domain.retraining import derive
from services.monitor.wire_time import moment, seconds, stamp


def camera_known(delivery: Delivery[Any], camera: ingest_pb2.Camera) -> CameraKnown:
    """A camera's site and tags; a tag named `site` gives way to the site. Raises `InvalidMessage`."""
    if not camera.id:
        raise InvalidMessage("camera.id is empty", field="camera.id")
    labels = {**camera.tags, **({"site": camera.site} if camera.site else {})}
    at = delivery.ce_time.timestamp()
    return CameraKnown(at, delivery.ce_id, delivery.traceparent, camera.id, tuple(sorted(labels.items())))


def commanded(delivery: Delivery[Any], value: pb.CommandGiven) -> Commanded:
    """A command as the judge carries it out. Raises `InvalidMessage`."""
    kind = value.WhichOneof("command")
    if kind is None or not value.id:
        kinds = "acknowledge, mute, plan, cancel, accept_gaps"
        raise InvalidMessage(f"a command needs an id, and one of {kinds}", field="command")
    common = (seconds(value.given_at) or delivery.ce_time.timestamp(), delivery.ce_id, delivery.traceparent, value.id)
    if kind == "acknowledge":
        return Commanded(*common, Order.ACKNOWLEDGE, value.by, value.why, value.acknowledge.incident_id)
    if kind == "mute":
        until = seconds(value.mute.until)
        return Commanded(*common, Order.MUTE, value.by, value.why, value.mute.incident_id, until=until)
    if kind == "cancel":
        return Commanded(*common, Order.CANCEL, value.by, value.why, value.cancel.plan_id)
    if kind == "accept_gaps":
        accepted = value.accept_gaps
        why = f"{value.why}; {gaps_in_words(accepted)}"
        at = seconds(accepted.judged_until) or common[0]
        return Commanded(at, *common[1:], Order.ACCEPT_GAPS, value.by, why, accepted.handler)
    plan = value.plan
    since, until = seconds(plan.starts_at), seconds(plan.ends_at)
    labels = tuple(sorted(plan.labels.items()))
    return Commanded(
        *common, Order.PLAN, value.by, value.why, plan.plan_id, since, until, tuple(plan.cameras), labels
    )  # fmt: skip


def gaps_in_words(value: pb.AcceptGaps) -> str:
    """What a handler goes on without."""
    places = [f"{g.topic}/{g.partition} from {g.wanted} to {g.oldest}" for g in value.gaps]
    return f"{value.handler} goes on without offsets of {', '.join(places)}"


def command_event(value: pb.CommandGiven) -> Event[pb.CommandGiven]:
    """A command as a record; the same command again has the same `ce_id`."""
    at = moment(seconds(value.given_at))
    return Event(COMMAND_GIVEN, value.id, value, derive("command", value.id), at)


def assessed_event(a: Assessed) -> Event[pb.CameraAssessed]:
    """An assessment as a record."""
    value = pb.CameraAssessed(
        model=a.model,
        version=a.version,
        camera_id=a.camera_id,
        state=pb.MonitorState.ValueType(int(a.state)),
        evidence_frames=a.steps,
        labels=dict(a.labels),
        incident_id=a.incident_id,
        channels=[evidence_message(e) for e in a.evidence],
        assessed_at=stamp(a.at),
    )
    ce_id = derive("assessed", a.model, a.version, a.camera_id, str(a.at))
    return Event(CAMERA_ASSESSED, a.model, value, ce_id, moment(a.at), a.traceparent)


def add_handling(message: pb.Incident, i: Incident) -> None:
    """What people act on: the scope, and what was done so far."""
    message.scope.CopyFrom(scope_message(i.scope))
    message.acknowledged_by, message.plan_id = i.acknowledged_by, i.plan_id
    message.history.extend(happening_message(h) for h in i.history)
    if i.acknowledged_at:
        message.acknowledged_at.CopyFrom(stamp(i.acknowledged_at))
    message.muted = i.muted_until > 0.0
    if i.muted_until and not isinf(i.muted_until):
        message.muted_until.CopyFrom(stamp(i.muted_until))


def evidence_message(e: Evidence) -> pb.ChannelEvidence:
    """One channel's part."""
    return pb.ChannelEvidence(
        channel=e.channel,
        camera_id=e.camera_id,
        detector=e.detector,
        statistic=e.statistic,
        threshold=e.threshold,
        reference_mean=e.reference_mean,
        current_mean=e.current_mean,
        shift_sigma=e.shift_sigma,
    )


def scope_message(s: Scope) -> pb.IncidentScope:
    """What the touched have in common."""
    return pb.IncidentScope(
        kind=s.kind,
        value=s.value,
        inside=s.inside,
        inside_touched=s.inside_hit,
        outside=s.outside,
        outside_touched=s.outside_hit,
    )


def happening_message(h: Happening) -> pb.IncidentHappening:
    """A line of the history."""
    return pb.IncidentHappening(at=stamp(h.at), what=h.what, by=h.by, why=h.why)


def plan_message(p: Plan) -> pb.PlannedChange:
    """An announced change."""
    return pb.PlannedChange(
        id=p.id,
        cameras=p.cameras,
        labels=dict(p.labels),
        starts_at=stamp(p.since),
        ends_at=stamp(p.until),
        by=p.by,
        why=p.why,
        announced_at=stamp(p.announced_at),
        cancelled_at=stamp(p.cancelled_at) if p.cancelled_at else None,
        cancelled_by=p.cancelled_by,
    )
