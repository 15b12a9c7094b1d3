"""What can be asked of the monitor: the judge's state as it is, and accuracy from analytics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor import quality, wire
from services.monitor.domain import conduct, risk
from services.monitor.domain.challenge import verdict
from services.monitor.domain.challenge.trial import Trial
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Risk
from services.monitor.domain.history import CLOSED, History
from services.monitor.domain.model import ModelWatch
from services.monitor.errors import UnknownIncident, UnknownModel
from services.monitor.handlers import Judge
from services.monitor.views import explaining, predictions

_CHANNELS = 40
_LIMIT = 100


class AccuracySource(Protocol):
    """Where labels joined to predictions are counted."""

    async def accuracy(self, request: pb.GetAccuracyRequest) -> tuple[int, int]:
        """(right, labels) of the newest revision of each label. Raises `AnalyticsClosed`."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Answers in the contract's messages; the judge goes on meanwhile."""

    judge: Judge
    analytics: AccuracySource
    history: History = CLOSED

    async def status(self, request: pb.GetStatusRequest) -> pb.GetStatusResponse:
        """All models, or one. Raises `UnknownModel`."""
        return await asyncio.to_thread(self.judge.look, lambda engine: _status(engine, request.model))

    async def incidents(self, request: pb.ListIncidentsRequest) -> pb.ListIncidentsResponse:
        """Newest first; `since` is compared with the time of detection."""

        def view(engine: Engine) -> list[pb.Incident]:
            since = wire.seconds(request.since)
            found = [i for w in _watches(engine, request.model) for i in w.incidents if i.detected_at >= since]
            found = [i for i in found if not (request.open and i.closed_at)]
            ordered = sorted(found, key=lambda i: (-i.detected_at, i.id))
            return [wire.incident_message(i) for i in ordered[: request.limit or _LIMIT]]

        return pb.ListIncidentsResponse(incidents=await asyncio.to_thread(self.judge.look, view))

    async def incident(self, request: pb.GetIncidentRequest) -> pb.GetIncidentResponse:
        """One, as it stands. Raises `UnknownIncident`."""

        def view(engine: Engine) -> pb.Incident | None:
            open_ = [c.incident() for w in _watches(engine, "") for c in w.cases]
            known = [i for w in _watches(engine, "") for i in w.incidents]
            found = next((i for i in (*open_, *known) if i.id == request.id), None)
            return wire.incident_message(found) if found is not None else None

        found = await asyncio.to_thread(self.judge.look, view)
        if found is None:
            raise UnknownIncident(f"there is no incident {request.id!r}", field="id")
        return pb.GetIncidentResponse(incident=found)

    async def decisions(self, request: pb.ListDecisionsRequest) -> pb.ListDecisionsResponse:
        """Newest first."""

        def view(engine: Engine) -> list[pb.Decision]:
            since = wire.seconds(request.since)
            found = [d for w in _watches(engine, request.model) for d in w.decisions if d.at >= since]
            ordered = sorted(found, key=lambda d: (-d.at, d.id))
            return [wire.decision_message(d) for d in ordered[: request.limit or _LIMIT]]

        return pb.ListDecisionsResponse(decisions=await asyncio.to_thread(self.judge.look, view))

    async def challenges(self, model: str) -> list[tuple[pb.ChallengerJudged, dict[str, int]]]:
        """Rollouts under way as they stand now, each with what was left out: labels and pairs, counted by reason."""

        def view(engine: Engine) -> list[tuple[pb.ChallengerJudged, dict[str, int]]]:
            found = [(w.trial, engine.policy.of(w.model).challenge) for w in _watches(engine, model) if w.trial]
            trials = [trial for trial, _ in found]
            now = [verdict.judged(t, engine.clock, "", *verdict.reached(t, policy)) for t, policy in found]
            return [(wire.judged_message(j), _left_out(t)) for j, t in zip(now, trials, strict=True)]

        return await asyncio.to_thread(self.judge.look, view)

    async def quality(self, request: pb.GetQualityRequest) -> pb.GetQualityResponse:
        """What labels say of each version, by camera or hour if asked. Raises `UnknownModel`, `InvalidMessage`."""
        return await quality.answer(self.judge, request)

    async def predictions(self, request: pb.ListPredictionsRequest) -> pb.ListPredictionsResponse:
        """Single predictions, the newest first. Raises `InvalidMessage`, `AnalyticsClosed`."""
        return await predictions.list_predictions(self.history, request)

    async def explain(self, request: pb.ExplainIncidentRequest) -> pb.ExplainIncidentResponse:
        """Why an incident was raised, and what would end it. Raises `UnknownIncident`."""
        return await explaining.explain(self.judge, self.history, request)

    async def accuracy(self, request: pb.GetAccuracyRequest) -> pb.GetAccuracyResponse:
        """The share of right predictions among labelled ones, with a 95 % Wilson interval."""
        right, labels = await self.analytics.accuracy(request)
        low, high = risk.wilson(right, labels, 1.96)
        share = right / labels if labels else 0.0
        return pb.GetAccuracyResponse(labels=labels, accuracy=share, accuracy_low=low, accuracy_high=high)


def _left_out(trial: Trial) -> dict[str, int]:
    return {
        "labels_not_random": trial.not_random,
        "labels_revised": trial.revised,
        "pairs_without_partner": trial.book.dropped,
    }


def _watches(engine: Engine, model: str) -> Sequence[ModelWatch]:
    if not model:
        return [engine.models[name] for name in sorted(engine.models)]
    return [engine.models[model]] if model in engine.models else []


def _status(engine: Engine, model: str) -> pb.GetStatusResponse:
    watches = _watches(engine, model)
    if model and not watches:
        raise UnknownModel(f"nothing has been heard of model {model!r}", field="model")
    return pb.GetStatusResponse(models=[_model_status(w) for w in watches])


def _model_status(watch: ModelWatch) -> pb.ModelStatus:
    message = pb.ModelStatus(
        model=watch.model,
        version=watch.version,
        state=pb.MonitorState.ValueType(int(watch.state())),
        predictions=watch.seen,
        labels=sum(bool(entry.truth) for entry in watch.book.entries.values()),
        cameras=[_camera_status(watch, name) for name in sorted(watch.cameras)],
        open_request_id=watch.ledger.open.id if watch.ledger.open else "",
    )
    if watch.case is not None:
        message.incident.CopyFrom(wire.incident_message(watch.case.incident()))
        message.incidents.extend(wire.incident_message(case.incident()) for case in watch.cases)
    found = watch.case.risk if watch.case is not None and watch.case.risk is not None else _risk(watch)
    message.risk.CopyFrom(wire.risk_message(found))
    return message


def _risk(watch: ModelWatch) -> Risk:
    entries = watch.book.choose(lambda e: e.version == watch.version and e.origin == "uniform")
    return risk.evidence(watch.labels.baseline(), risk.Count.of(e.cost for e in entries))


def _camera_status(watch: ModelWatch, name: str) -> pb.CameraStatus:
    camera = watch.cameras[name]
    channels = [wire.evidence_message(e) for e in camera.evidence(_CHANNELS)]
    labelled = conduct.label_evidence(watch)
    if labelled is not None:
        channels.append(wire.evidence_message(labelled))
    state = pb.MonitorState.ValueType(int(watch.camera_state(camera)))
    return pb.CameraStatus(camera_id=name, state=state, predictions=camera.frames, channels=channels)
