"""Between the contracts' messages and the monitor's own words, both ways."""

from __future__ import annotations

from dataclasses import asdict
from math import nan
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import (
    ALERT_RAISED,
    CHALLENGER_JUDGED,
    CLOCK_TICKED,
    DRIFT_DETECTED,
    RETRAIN_DECLINED,
    RETRAIN_REQUESTED,
)
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Delivery, Event
from services.common.errors import InvalidMessage
from services.monitor.domain.drafts import make_seen
from services.monitor.domain.events import (
    Alert,
    Assessed,
    CameraFault,
    DriftFound,
    Finding,
    Incident,
    Judged,
    Numbers,
    Recurrence,
    Refusal,
    Regain,
    Request,
    Risk,
    TestResult,
)
from services.monitor.domain.inputs import (
    DRIFT,
    OTHER,
    UNIFORM,
    Answered,
    Deployed,
    Input,
    Labelled,
    PredictionOf,
    RolloutKnown,
    RunEnded,
    Seen,
    Tried,
    VersionKnown,
)
from services.monitor.domain.probe_events import ProbeRequest
from services.monitor.domain.quality.boxes import loss, match
from services.monitor.domain.retraining import derive
from services.monitor.domain.ticks import Tick
from services.monitor.wire_fleet import add_handling, assessed_event, camera_known, commanded
from services.monitor.wire_fleet import evidence_message as evidence_message
from services.monitor.wire_probe import probe_ended, request_event, reread, word_message
from services.monitor.wire_quality import BACKGROUND, boxes_of, found_of
from services.monitor.wire_time import moment as moment
from services.monitor.wire_time import seconds as seconds
from services.monitor.wire_time import stamp as stamp

_ORIGINS: Final = {labeling_pb2.TASK_ORIGIN_UNIFORM: UNIFORM, labeling_pb2.TASK_ORIGIN_DRIFT: DRIFT}
_NO_PIXELS: Final = (nan,) * 9
_NO_PROJECTIONS: Final = (nan,) * 8
_ENDED: Final = {
    trainer_pb2.RUN_STATE_SUCCEEDED: "succeeded",
    trainer_pb2.RUN_STATE_FAILED: "failed",
    trainer_pb2.RUN_STATE_CANCELLED: "cancelled",
}


def _at(given: Timestamp, delivery: Delivery[Any]) -> float:
    """The event time that a message gives, else the time of its cause."""
    return seconds(given) or delivery.ce_time.timestamp()


def input_of(delivery: Delivery[Any]) -> Input | None:
    """What a record means to the judge; None when it does not concern it. Raises `InvalidMessage`."""
    value = delivery.value
    match value:
        case serving_pb2.PredictionMade():
            return _seen(delivery, value.prediction)
        case labeling_pb2.AnnotationConfirmed():
            return _labelled(delivery, value)
        case trainer_pb2.RunFinished():
            return _run_ended(delivery, value.run)
        case registry_pb2.VersionJudged():
            return _version_known(delivery, value)
        case serving_pb2.DeploymentChanged():
            return _deployed(delivery, value.deployment)
        case registry_pb2.AliasesPublished():
            return _rollout_known(delivery, value)
        case pb.RetrainAnswered():
            return _answered(delivery, value)
        case ingest_pb2.CameraChanged():
            return camera_known(delivery, value.camera)
        case pb.CommandGiven():
            return commanded(delivery, value)
        case labeling_pb2.ProbeAnswered():
            return reread(delivery, value)
        case labeling_pb2.ProbeEnded():
            return probe_ended(delivery, value)
    raise InvalidMessage(f"{type(value).__name__} is not judged", field="ce_type")


def _required(value: str, field: str) -> str:
    if not value:
        raise InvalidMessage(f"{field} is empty", field=field)
    return value


def _seen(delivery: Delivery[Any], p: serving_pb2.Prediction) -> Seen | None:
    failed, detector = bool(p.error), p.HasField("decision_threshold")
    if p.historical or not (failed or p.scores or detector):
        return None
    best = None if failed or not p.scores else p.scores[0]
    return make_seen(
        _at(p.captured_at, delivery),
        delivery.ce_id,
        delivery.traceparent,
        _required(p.model, "prediction.model"),
        _required(p.version, "prediction.version"),
        p.role,
        p.camera_id,
        p.asset_id,
        best.class_name if best is not None else "" if failed else BACKGROUND,
        0.0 if best is None else best.score,
        () if failed else features_of(p.features) if not detector else detector_features_of(p.features),
        p.pair_id,
        p.rollout_id,
        p.latency_ms,
        failed,
    )


def features_of(f: serving_pb2.Features) -> tuple[float, ...]:
    """The channels in the contract's order, NaN where absent. This is asked of every prediction: a field other than 0
    is there, and asking for its presence takes longer than reading it.
    """
    pixels = _NO_PIXELS
    if f.HasField("pixels"):
        s = f.pixels
        moved = s.frame_difference or (0.0 if s.HasField("frame_difference") else nan)
        pixels = (s.brightness, s.contrast, s.sharpness, s.red, s.green, s.blue, s.underexposed, s.overexposed, moved)
    projections = (*f.projections,)
    return (
        *pixels,
        f.max_probability or (0.0 if f.HasField("max_probability") else nan),
        f.margin or (0.0 if f.HasField("margin") else nan),
        f.entropy or (0.0 if f.HasField("entropy") else nan),
        f.energy or (0.0 if f.HasField("energy") else nan),
        *(projections if len(projections) == 8 else _NO_PROJECTIONS),
        f.embedding_norm or (0.0 if f.HasField("embedding_norm") else nan),
    )


def detector_features_of(f: serving_pb2.Features) -> tuple[float, ...]:
    """The same with what only detectors have; without any detection there is no area."""
    return *features_of(f), f.detection_count, f.box_area if f.HasField("box_area") else nan


def _labelled(delivery: Delivery[Any], value: labeling_pb2.AnnotationConfirmed) -> Labelled | None:
    a = value.annotation
    if not value.predictions or not (a.labels or a.withdrawn):
        return None
    return Labelled(
        at=_at(a.annotated_at, delivery),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        asset_id=_required(a.asset_id, "annotation.asset_id"),
        camera_id=a.camera_id,
        captured_at=seconds(a.captured_at),
        revision=a.revision,
        class_name="" if a.withdrawn else a.labels[0].class_name,
        origin=_ORIGINS.get(value.draw.origin, OTHER),
        propensity=value.draw.propensity,
        predictions=tuple(_prediction_of(p, a) for p in value.predictions),
        annotator=a.annotated_by,
    )


def _prediction_of(p: labeling_pb2.PredictionReference, a: labeling_pb2.Annotation) -> PredictionOf:
    features = features_of(p.features) if p.HasField("features") else ()
    if not p.HasField("decision_threshold"):
        return PredictionOf(p.model, p.version, p.role, p.class_name, p.score, features=features)
    drawn, found = boxes_of(a), found_of(p)
    lost = nan if drawn is None else loss(drawn, found, match(drawn, found), p.decision_threshold)
    return PredictionOf(p.model, p.version, p.role, p.class_name or BACKGROUND, p.score, lost, features)


def _run_ended(delivery: Delivery[Any], run: trainer_pb2.Run) -> RunEnded | None:
    if run.state not in _ENDED or not run.request_id:
        return None
    succeeded = run.state == trainer_pb2.RUN_STATE_SUCCEEDED
    return RunEnded(
        at=_at(run.finished_at, delivery),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        model=_required(run.model, "run.model"),
        request_id=run.request_id,
        succeeded=succeeded,
        reason=run.error or _ENDED[run.state],
        seconds=max(seconds(run.finished_at) - seconds(run.started_at), 0.0) if run.HasField("started_at") else 0.0,
        tried=_tried(run.report),
    )


def _version_known(delivery: Delivery[Any], value: registry_pb2.VersionJudged) -> VersionKnown:
    v = value.version
    error, assets = _held_out(v.report, v.version)
    return VersionKnown(
        at=delivery.ce_time.timestamp(),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        model=_required(v.model, "version.model"),
        version=_required(v.version, "version.version"),
        request_id=value.request_id,
        verdict=registry_pb2.VersionState.Name(v.state).removeprefix("VERSION_STATE_").lower(),
        error=error,
        assets=assets,
        tried=_tried(v.report),
    )


def _held_out(report: trainer_pb2.EvaluationReport, version: str) -> tuple[float, int]:
    """The version's error on held-out assets: on those of the present condition where they were told apart."""
    score = next((s for s in report.scores if s.version == version), None)
    score = score or next((s for s in report.scores if s.role == "challenger"), None)
    conditions = {c.condition: c for c in score.conditions if c.assets} if score else {}
    whole = conditions.get("all")
    chosen = conditions.get("new", whole)
    if chosen is None or whole is None:
        return 0.0, 0
    return 1.0 - min(chosen.accuracy, whole.accuracy), int(chosen.assets)


def _tried(report: trainer_pb2.EvaluationReport) -> Tried | None:
    """Challenger and champion on held-out assets of the new condition; None where one of them was not measured."""
    found = {
        score.role: condition
        for score in report.scores
        for condition in score.conditions
        if condition.condition == "new" and condition.assets
    }
    new, champion = found.get("challenger"), found.get("champion")
    if new is None or champion is None:
        return None
    return Tried(1.0 - new.accuracy, 1.0 - champion.accuracy, int(min(new.assets, champion.assets)))


def _deployed(delivery: Delivery[Any], d: serving_pb2.Deployment) -> Deployed:
    return Deployed(
        at=_at(d.changed_at, delivery),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        model=_required(d.model, "deployment.model"),
        version=d.version,
        replica=d.replica,
        roles=tuple(d.roles),
        state=serving_pb2.DeploymentState.Name(d.state).removeprefix("DEPLOYMENT_STATE_").lower(),
    )


def _rollout_known(delivery: Delivery[Any], value: registry_pb2.AliasesPublished) -> RolloutKnown:
    r = value.rollout
    return RolloutKnown(
        at=delivery.ce_time.timestamp(),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        model=_required(value.model, "model"),
        id=r.id,
        champion=r.champion,
        challenger=r.challenger,
        stage=registry_pb2.Stage.Name(r.stage).removeprefix("STAGE_").lower(),
        started_at=seconds(r.started_at),
        stage_since=seconds(r.stage_since),
    )


def tick_of(value: pb.ClockTicked) -> Tick:
    """A tick of the topic. Raises `InvalidMessage`."""
    if not value.HasField("watermark"):
        raise InvalidMessage("watermark is empty", field="watermark")
    return Tick(seconds(value.watermark), {f"{e.topic}/{e.partition}": e.end for e in value.ends})


def tick_event(tick: Tick, clock: str) -> Event[pb.ClockTicked]:
    """The inverse of `tick_of`, as an event."""
    ends = [
        pb.PartitionEnd(topic=topic, partition=int(partition), end=end)
        for (topic, _, partition), end in sorted((s.rpartition("/"), end) for s, end in tick.ends.items())
    ]
    value = pb.ClockTicked(clock=clock, watermark=stamp(tick.watermark), ends=ends)
    ce_id = derive("tick", clock, str(tick.watermark), *(f"{e.topic}/{e.partition}/{e.end}" for e in ends))
    return Event(CLOCK_TICKED, clock, value, ce_id, moment(tick.watermark))


def _answered(delivery: Delivery[Any], value: pb.RetrainAnswered) -> Answered:
    return Answered(
        at=_at(value.answered_at, delivery),
        ce_id=delivery.ce_id,
        traceparent=delivery.traceparent,
        model=_required(value.model, "model"),
        incident_id=_required(value.incident_id, "incident_id"),
        approved=value.approved,
        by=value.answered_by,
        reason=value.reason,
    )


def event_of(finding: Finding) -> Event[Any]:
    """A finding as an event; the same finding has the same id."""
    at, trace = moment(finding.at), finding.traceparent
    match finding:
        case DriftFound():
            drift = pb.DriftDetected(incident=incident_message(finding.incident), revision=finding.revision)
            ce_id = derive("drift", finding.incident.id, str(finding.revision))
            return Event(DRIFT_DETECTED, finding.incident.model, drift, ce_id, at, trace)
        case Alert():
            return Event(ALERT_RAISED, finding.model, _alert(finding), finding.id, at, trace)
        case Assessed():
            return assessed_event(finding)
        case Request():
            return Event(RETRAIN_REQUESTED, finding.model, _request(finding), finding.id, at, trace)
        case Refusal():
            return Event(RETRAIN_DECLINED, finding.model, _refusal(finding), finding.id, at, trace)
        case ProbeRequest():
            return request_event(finding)
        case Judged():
            numbers = (finding.verdict, str(finding.pairs), str(finding.labelled))
            ce_id = derive("challenge", finding.rollout_id, *numbers)
            return Event(CHALLENGER_JUDGED, finding.model, judged_message(finding), ce_id, at, trace)


def _alert(a: Alert) -> pb.AlertRaised:
    return pb.AlertRaised(
        id=a.id, model=a.model, incident_id=a.incident_id, severity=a.severity, summary=a.summary, kind=a.kind
    )


def _request(r: Request) -> pb.RetrainRequested:
    return pb.RetrainRequested(
        request_id=r.id,
        model=r.model,
        version=r.version,
        incident_id=r.incident_id,
        labels_since=stamp(r.labels_since),
        labels_wanted=r.labels_wanted,
        requested_at=stamp(r.at),
        expires_at=stamp(r.expires_at),
        reason=r.reason,
        class_names=r.class_names,
        cameras=r.cameras,
        numbers=_numbers(r.numbers),
    )


def _refusal(r: Refusal) -> pb.RetrainDeclined:
    return pb.RetrainDeclined(
        id=r.id,
        model=r.model,
        incident_id=r.incident_id,
        reason=r.reason,
        declined_at=stamp(r.at),
        numbers=_numbers(r.numbers),
    )


def _numbers(n: Numbers | None) -> pb.DecisionNumbers | None:
    return None if n is None else pb.DecisionNumbers(**asdict(n))


def judged_message(j: Judged) -> pb.ChallengerJudged:
    """A judgement of a challenger as the contract has it."""
    return pb.ChallengerJudged(
        model=j.model,
        champion=j.champion,
        challenger=j.challenger,
        verdict=j.verdict,
        pairs=j.pairs,
        mean_difference=j.mean_difference,
        rollout_id=j.rollout_id,
        labelled_pairs=j.labelled,
        tests=[_test_message(test) for test in j.tests],
        coverage=j.coverage,
        reason=j.reason,
        judged_at=stamp(j.at),
        stage_since=stamp(j.stage_since) if j.stage_since else None,
        stage_pairs=j.stage_pairs,
    )


def _test_message(t: TestResult) -> pb.SequentialTest:
    return pb.SequentialTest(
        name=t.name,
        e_value=t.e_value,
        alpha=t.alpha,
        limit=t.limit,
        mean=t.mean,
        outcomes=t.outcomes,
        rejected=t.rejected,
    )


def incident_message(i: Incident) -> pb.Incident:
    """An incident as the contract has it."""
    message = pb.Incident(
        id=i.id,
        model=i.model,
        version=i.version,
        state=pb.MonitorState.ValueType(int(i.state)),
        cause=pb.DriftCause.ValueType(int(i.cause)),
        harm=pb.DriftHarm.ValueType(int(i.harm)),
        shape=pb.DriftShape.ValueType(int(i.shape)),
        detected_at=stamp(i.detected_at),
        cameras=i.cameras,
        class_names=i.class_names,
        evidence=[evidence_message(e) for e in i.evidence],
        risk=risk_message(i.risk) if i.risk else None,
        trigger_asset_id=i.trigger_asset_id,
        faults=[fault_message(f) for f in i.faults],
        probe=word_message(i.probe) if i.probe is not None else None,
        regain=regain_message(i.regain) if i.regain else None,
        recurs=recurrence_message(i.recurs) if i.recurs else None,
    )
    for name in ("began_at", "level_since", "closed_at"):
        if at := getattr(i, name):
            getattr(message, name).CopyFrom(stamp(at))
    add_handling(message, i)
    return message


def fault_message(f: CameraFault) -> pb.CameraFault:
    """What is broken in a camera."""
    return pb.CameraFault(
        camera_id=f.camera_id,
        kind=f.kind,
        since=stamp(f.since),
        before_asset_id=f.before_asset_id,
        after_asset_id=f.after_asset_id,
    )


def recurrence_message(r: Recurrence) -> pb.IncidentRecurrence:
    """What a change brings back."""
    return pb.IncidentRecurrence(
        incident_id=r.incident_id,
        incident_began_at=stamp(r.incident_at) if r.incident_id else None,
        stored_version=r.version,
        stored_until=stamp(r.version_at) if r.version else None,
    )


def regain_message(r: Regain) -> pb.TrainingRegain:
    """What a retraining regains."""
    return pb.TrainingRegain(
        outlook=pb.TrainingOutlook.ValueType(int(r.outlook)),
        share=r.share,
        share_low=r.low,
        share_high=r.high,
        labels=r.labels,
        by=r.by,
    )


def risk_message(r: Risk) -> pb.RiskEvidence:
    """The labelled error before and after."""
    return pb.RiskEvidence(
        baseline_error=r.baseline_error,
        baseline_labels=r.baseline_labels,
        current_error=r.current_error,
        current_error_low=r.current_low,
        current_error_high=r.current_high,
        current_labels=r.current_labels,
    )


def decision_message(d: Request | Refusal) -> pb.Decision:
    """A request or a refusal, as a line of the log of decisions."""
    said = "requested" if isinstance(d, Request) else "declined"
    return pb.Decision(
        id=d.id,
        model=d.model,
        incident_id=d.incident_id,
        decision=said,
        reason=d.reason,
        decided_at=stamp(d.at),
        numbers=_numbers(d.numbers),
    )
