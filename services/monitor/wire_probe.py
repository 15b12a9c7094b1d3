"""Between the contracts' messages and the monitor's words about blind probes."""

from __future__ import annotations

from typing import Any

from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import PROBE_REQUESTED

from services.common.bus import Delivery, Event
from services.common.errors import InvalidMessage
from services.monitor.domain.probe_events import ProbeEnded, ProbeRequest, ProbeVerdict, ProbeWord, Reread
from services.monitor.wire_time import moment, seconds, stamp


def reread(delivery: Delivery[Any], value: labeling_pb2.ProbeAnswered) -> Reread:
    """An old asset answered again. Raises `InvalidMessage`."""
    _require(value, "probe_id", "model", "asset_id", "class_before", "class_now")
    return Reread(
        at=seconds(value.annotated_now_at) or delivery.ce_time.timestamp(),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        model=value.model,
        probe_id=value.probe_id,
        asset_id=value.asset_id,
        class_before=value.class_before,
        class_now=value.class_now,
        annotator_before=value.annotated_before_by,
        annotator_now=value.annotated_now_by,
        propensity=value.propensity,
        revision=max(value.revision, 1),
    )


def probe_ended(delivery: Delivery[Any], value: labeling_pb2.ProbeEnded) -> ProbeEnded:
    """No more answers come. Raises `InvalidMessage`."""
    _require(value, "probe_id", "model", "reason")
    return ProbeEnded(
        at=seconds(value.ended_at) or delivery.ce_time.timestamp(),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        model=value.model,
        probe_id=value.probe_id,
        reason=labeling_pb2.ProbeEnd.Name(value.reason).removeprefix("PROBE_END_").lower(),
        drawn=value.drawn,
        answered=value.answered,
        skipped=value.skipped,
        deleted=value.deleted,
    )


def _require(value: Any, *fields: str) -> None:
    for field in fields:
        if not getattr(value, field):
            raise InvalidMessage(f"{field} is empty", field=field)


def request_event(r: ProbeRequest) -> Event[pb.ProbeRequested]:
    """A probe asked for as a record; its id is the probe's."""
    value = pb.ProbeRequested(
        probe_id=r.id,
        model=r.model,
        version=r.version,
        incident_id=r.incident_id,
        class_names=r.class_names,
        cameras=r.cameras,
        answered_before=stamp(r.answered_before),
        assets=r.assets,
        requested_at=stamp(r.at),
        until=stamp(r.until),
    )
    return Event(PROBE_REQUESTED, r.model, value, r.id, moment(r.at), r.traceparent)


def request_of(value: pb.ProbeRequested, traceparent: str) -> ProbeRequest:
    """The inverse of `request_event`."""
    return ProbeRequest(
        at=seconds(value.requested_at),
        traceparent=traceparent,
        id=value.probe_id,
        model=value.model,
        version=value.version,
        incident_id=value.incident_id,
        class_names=tuple(value.class_names),
        cameras=tuple(value.cameras),
        answered_before=seconds(value.answered_before),
        assets=value.assets,
        until=seconds(value.until),
    )


def word_message(w: ProbeWord) -> pb.IncidentProbe:
    """What an incident says of its probe."""
    return pb.IncidentProbe(
        id=w.id,
        verdict=pb.ProbeVerdict.ValueType(int(w.verdict)),
        suspected=w.suspected,
        suspected_changed=w.suspected_changed,
        others=w.others,
        others_changed=w.others_changed,
        annotator=w.annotator,
        why=w.why,
        asked_at=stamp(w.asked_at),
        until=stamp(w.until),
    )


def word_of(m: pb.IncidentProbe) -> ProbeWord:
    """The inverse of `word_message`."""
    return ProbeWord(
        m.id, ProbeVerdict(m.verdict), m.suspected, m.suspected_changed, m.others, m.others_changed, m.annotator, m.why,
        seconds(m.asked_at), seconds(m.until),
    )  # fmt: skip
