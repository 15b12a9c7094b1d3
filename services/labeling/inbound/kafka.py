"""Assets, predictions, drifts and probes, off the bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ASSET_DELETED, ASSET_STORED, DRIFT_DETECTED, PREDICTION_MADE, PROBE_REQUESTED

from services.common.bus import Bus, Delivery, Subscription
from services.common.errors import InvalidMessage, PoisonedDelivery
from services.labeling import codec
from services.labeling.domain.model import Detection, Prediction, Reference
from services.labeling.domain.probe import Probe
from services.labeling.handlers.assets import AssetHandlers
from services.labeling.handlers.draws import DrawHandlers
from services.labeling.handlers.drift import DriftHandlers, DriftWord
from services.labeling.handlers.probes import MOST, ProbeHandlers

T = TypeVar("T")
ALARMED = (monitor_pb2.MONITOR_STATE_ALARM, monitor_pb2.MONITOR_STATE_CONFIRMED)
DIRECT = "direct"
LINGER_MS = 250
"""People are handed tasks; a quarter of a second more makes batches of what would be single records."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Hands each batch to its handler."""

    assets: AssetHandlers
    draws: DrawHandlers
    drift: DriftHandlers
    probes: ProbeHandlers

    def listen(self, bus: Bus) -> None:
        """Declare what labeling hears."""
        bus.subscribe(Subscription(ASSET_STORED, "note-assets", self.note_assets, linger_ms=LINGER_MS))
        bus.subscribe(Subscription(ASSET_DELETED, "forget-assets", self.forget_assets))
        bus.subscribe(Subscription(PREDICTION_MADE, "draw-tasks", self.draw_tasks, linger_ms=LINGER_MS))
        bus.subscribe(Subscription(DRIFT_DETECTED, "draw-drifted", self.draw_drifted))
        bus.subscribe(Subscription(PROBE_REQUESTED, "hold-probes", self.hold_probes))

    async def note_assets(self, batch: Sequence[Delivery[ingest_pb2.AssetStored]]) -> None:
        """Every asset, of live cameras and of imports."""
        await self.assets.note(_each(batch, lambda delivery: codec.asset(delivery.value.asset)))

    async def forget_assets(self, batch: Sequence[Delivery[ingest_pb2.AssetDeleted]]) -> None:
        """Deleted by a person or by policy."""
        await self.assets.forget(_each(batch, _deleted))

    async def draw_tasks(self, batch: Sequence[Delivery[serving_pb2.PredictionMade]]) -> None:
        """Predictions of live cameras; clients' calls, history and failed predictions are nobody's tasks."""
        found = _each(batch, lambda delivery: prediction(delivery.value.prediction))
        await self.draws.draw([one for one in found if one is not None])

    async def draw_drifted(self, batch: Sequence[Delivery[monitor_pb2.DriftDetected]]) -> None:
        """Every revision of every incident."""
        await self.drift.note(_each(batch, lambda delivery: drift_word(delivery.value)))

    async def hold_probes(self, batch: Sequence[Delivery[monitor_pb2.ProbeRequested]]) -> None:
        """Old assets are to be asked about again."""
        await self.probes.hold(_each(batch, lambda delivery: probe_of(delivery.value)))


def _each(batch: Sequence[Delivery[Any]], decode: Callable[[Delivery[Any]], T]) -> list[T]:
    """Decode a batch. Raises `PoisonedDelivery` naming the one at fault."""
    found = []
    for place, delivery in enumerate(batch):
        try:
            found.append(decode(delivery))
        except InvalidMessage as error:
            raise PoisonedDelivery(place, str(error), field=error.field, reason=error.reason) from error
    return found


def _deleted(delivery: Delivery[ingest_pb2.AssetDeleted]) -> tuple[str, str]:
    if not delivery.value.asset_id:
        raise InvalidMessage("A deletion needs `asset_id`.", field="asset_id")
    return delivery.value.asset_id, delivery.value.camera_id


def prediction(message: serving_pb2.Prediction) -> Prediction | None:
    """None for what no task is drawn from. Raises `InvalidMessage` without the fields that identify it."""
    answered = message.scores or message.HasField("decision_threshold")
    if message.role == DIRECT or not message.asset_id or message.historical or message.error or not answered:
        return None
    if not (message.id and message.model and message.role and message.camera_id and message.HasField("captured_at")):
        raise InvalidMessage(
            "A prediction needs `id`, `model`, `role`, `camera_id` and `captured_at`.", field="prediction"
        )
    return Prediction(
        _reference(message),
        message.asset_id,
        message.camera_id,
        codec.micros(message.captured_at),
        _margin(message),
    )


def _reference(message: serving_pb2.Prediction) -> Reference:
    best = message.scores[0] if message.scores else serving_pb2.Score()
    said = (message.id, message.model, message.version, message.role, best.class_name, best.score)
    features = message.features.SerializeToString()
    if not message.HasField("decision_threshold"):
        return Reference(*said, features=features)
    found = tuple(Detection(d.class_name, d.score, d.x, d.y, d.width, d.height) for d in message.detections)
    return Reference(*said, found, message.decision_threshold, features)


def _margin(message: serving_pb2.Prediction) -> float:
    if message.HasField("decision_threshold"):
        return min((abs(d.score - message.decision_threshold) for d in message.detections), default=1.0)
    if message.features.HasField("margin"):
        margin = message.features.margin
    else:
        margin = message.scores[0].score - (message.scores[1].score if len(message.scores) > 1 else 0.0)
    return min(1.0, max(0.0, margin))


def drift_word(message: monitor_pb2.DriftDetected) -> DriftWord:
    """Raises `InvalidMessage` without the fields that identify the incident and its begin."""
    incident = message.incident
    if not incident.id or not incident.model or not incident.HasField("began_at"):
        raise InvalidMessage("An incident needs `id`, `model` and `began_at`.", field="incident")
    confirmed = incident.state == monitor_pb2.MONITOR_STATE_CONFIRMED
    return DriftWord(
        incident_id=incident.id,
        model=incident.model,
        revision=message.revision,
        cameras=tuple(incident.cameras),
        class_names=tuple(incident.class_names),
        began_at=codec.micros(incident.began_at),
        over=incident.HasField("closed_at") or incident.harm == monitor_pb2.DRIFT_HARM_NONE,
        asking=incident.state in ALARMED and incident.harm != monitor_pb2.DRIFT_HARM_CROSSED,
        concept_changed=confirmed and incident.cause == monitor_pb2.DRIFT_CAUSE_LABELS and bool(incident.class_names),
        probe_judged=incident.probe.verdict > monitor_pb2.PROBE_VERDICT_ASKED,
    )


def probe_of(message: monitor_pb2.ProbeRequested) -> Probe:
    """Raises `InvalidMessage` without what a probe cannot be held without."""
    for field in ("probe_id", "model", "incident_id", "class_names"):
        if not getattr(message, field):
            raise InvalidMessage(f"A probe needs `{field}`.", field=field)
    times = {name: getattr(message, name) for name in ("answered_before", "requested_at", "until")}
    for field, at in times.items():
        if not at.seconds:
            raise InvalidMessage(f"A probe needs `{field}`.", field=field)
    if not 1 <= message.assets <= MOST:
        raise InvalidMessage(f"A probe is of 1 to {MOST} `assets`, not {message.assets}.", field="assets")
    return Probe(
        id=message.probe_id,
        model=message.model,
        incident_id=message.incident_id,
        class_names=tuple(message.class_names),
        cameras=tuple(message.cameras),
        answered_before=codec.micros(message.answered_before),
        assets=message.assets,
        requested_at=codec.micros(message.requested_at),
        until=codec.micros(message.until),
    )
