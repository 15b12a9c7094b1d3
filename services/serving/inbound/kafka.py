"""What serving hears: aliases and cameras on every instance, and the stream from assets to predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.registry.v1 import registry_pb2
from irisloop.topics import ALIASES_PUBLISHED, ASSET_STORED, CAMERA_CHANGED, DRIFT_DETECTED, PREDICTION_MADE

from services.common.bus import Bus, Delivery, Event, Follow, Outcome, Record, Stream, decode
from services.common.errors import IrisloopError, PoisonedDelivery
from services.common.metrics import SERVING_ERRORS, SERVING_PREDICTIONS
from services.common.telemetry import log
from services.serving.codec import asset_prediction
from services.serving.domain.predictions import Frame, Made, Seen
from services.serving.domain.rollout import Arm, Rollout, Stage
from services.serving.domain.routes import Publication, Target
from services.serving.handlers.bindings import Bindings
from services.serving.handlers.drifts import Drifts, DriftWord
from services.serving.handlers.models import Models
from services.serving.handlers.predictions import Predictor

STAGES: Final[dict[int, Stage]] = {
    registry_pb2.STAGE_SHADOW: "shadow",
    registry_pb2.STAGE_CANARY: "canary",
    registry_pb2.STAGE_EXPERIMENT: "experiment",
    registry_pb2.STAGE_WATCH: "watch",
}
ROLES: Final = frozenset({"champion", "challenger", "shadow", "canary", "previous"})
"""Roles that have a metric of their own; all others share one."""


class Listener:
    """Declares what serving hears and hands it to the handlers."""

    def __init__(
        self,
        models: Models,
        bindings: Bindings,
        predictor: Predictor,
        replica: str,
        tail: int,
        drifts: Drifts | None = None,
    ) -> None:
        """`drifts`: where somebody asks which models drift."""
        self._drifts = drifts
        self._models = models
        self._bindings = bindings
        self._processor = PredictAssets(self, predictor, replica, tail)

    def listen(self, bus: Bus, batch: int) -> None:
        """Take `batch` assets of a partition at most in one transaction."""
        bus.follow(Follow(ALIASES_PUBLISHED, "load-models", self.load_models))
        bus.follow(Follow(CAMERA_CHANGED, "know-cameras", self.know_cameras))
        if self._drifts is not None:
            bus.follow(Follow(DRIFT_DETECTED, "know-drifts", self.know_drifts))
        bus.stream(Stream((ASSET_STORED,), "predict-assets", self._processor, max_batch=batch))

    async def load_models(self, batch: Sequence[Delivery[registry_pb2.AliasesPublished]]) -> None:
        """Only the newest revision of a model matters."""
        await self._models.follow([(publication(delivery.value), delivery.ce_time) for delivery in batch])

    async def know_cameras(self, batch: Sequence[Delivery[ingest_pb2.CameraChanged]]) -> None:
        """Tags, for selectors."""
        for delivery in batch:
            camera = delivery.value.camera
            self._bindings.note_camera(camera.id, dict(camera.tags))

    async def know_drifts(self, batch: Sequence[Delivery[monitor_pb2.DriftDetected]]) -> None:
        """Which models drift now."""
        assert self._drifts is not None
        self._drifts.note([drift(delivery.value) for delivery in batch])

    async def catch_up(self, unit: int, bus: Bus) -> None:
        """Know what is published before the first asset is taken: an asset passed over is never predicted.

        Cameras and their assets share a partition number; the aliases are one partition.
        """
        aliases, cameras = await asyncio.gather(bus.read(ALIASES_PUBLISHED, 0), bus.read(CAMERA_CHANGED, unit))
        await self.know_cameras(decoded(cameras, CAMERA_CHANGED))
        await self.load_models(decoded(aliases, ALIASES_PUBLISHED))


class PredictAssets:
    """Implements `StreamProcessor`: the state of a unit is the ids of the predictions on its partition."""

    def __init__(self, listener: Listener, predictor: Predictor, replica: str, tail: int) -> None:
        self._listener = listener
        self._predictor = predictor
        self._replica = replica
        self._tail = tail
        self._seen: dict[int, Seen] = {}

    async def restore(self, unit: int, bus: Bus) -> None:
        """Remember the predictions made, from the end of the unit's own output."""
        records, _ = await asyncio.gather(
            bus.read(PREDICTION_MADE, unit, last=self._tail), self._listener.catch_up(unit, bus)
        )
        seen = Seen(self._tail)
        for record in records:
            identity = record.header("ce_id")
            if identity is not None:
                seen.add(identity.decode("utf-8", "replace"))
        self._seen[unit] = seen

    async def process(self, unit: int, batch: Sequence[Delivery[Any]]) -> Outcome:
        """Predict on each asset once for every bound role."""
        seen = self._seen[unit]
        made = await self._predictor.predict([frame(place, delivery) for place, delivery in enumerate(batch)], seen)
        events = [self._event(unit, batch[one.place], one) for one in made]
        for one in made:
            seen.add(one.id)
        _count(made)
        return Outcome(events)

    async def idle(self, unit: int) -> Outcome | None:
        """Nothing depends on time passing."""
        return None

    async def release(self, unit: int) -> None:
        """The partition went to another instance."""
        self._seen.pop(unit, None)

    def _event(self, unit: int, delivery: Delivery[ingest_pb2.AssetStored], made: Made) -> Event[Any]:
        asset = delivery.value.asset
        captured_at = moment(asset.captured_at) if asset.HasField("captured_at") else delivery.ce_time
        return asset_prediction(made, asset, self._replica, unit, delivery.traceparent, captured_at)


def _count(made: Sequence[Made]) -> None:
    for one in made:
        SERVING_PREDICTIONS.labels(one.role if one.role in ROLES else "other").inc()
        if one.answer.error:
            SERVING_ERRORS.inc()


def frame(place: int, delivery: Delivery[ingest_pb2.AssetStored]) -> Frame:
    """What a prediction needs of an asset."""
    asset = delivery.value.asset
    for field, value in (("asset.id", asset.id), ("asset.camera_id", asset.camera_id)):
        if not value:
            raise PoisonedDelivery(place, f"`{field}` is empty", field=field)
    return Frame(asset.id, asset.camera_id, asset.object.digest)


def drift(message: monitor_pb2.DriftDetected) -> DriftWord:
    """What matters of an incident."""
    incident = message.incident
    over = incident.HasField("closed_at") or incident.harm == monitor_pb2.DRIFT_HARM_NONE
    return DriftWord(incident.id, incident.model, message.revision, over)


def publication(message: registry_pb2.AliasesPublished) -> Publication:
    """The alias map in serving's words."""
    return Publication(
        model=message.model,
        revision=message.revision,
        aliases={alias.name: target(alias.version) for alias in message.aliases},
        rollout=rollout(message.rollout) if message.HasField("rollout") else None,
        targets=tuple(target(version) for version in message.rollout_versions),
    )


def target(version: registry_pb2.ModelVersion) -> Target:
    """A version and its package."""
    package = version.package
    return Target(version.version, package.digest, package.signature, package.key_id)


def rollout(message: registry_pb2.Rollout) -> Rollout | None:
    """None for a stage that this release does not know: then the champion answers, as before."""
    stage = STAGES.get(message.stage)
    if stage is None:
        log.error("rollout_stage_unknown", model=message.model, rollout=message.id, stage=message.stage)
        return None
    arms = tuple(Arm(arm.name, arm.version, arm.share) for arm in message.arms)
    return Rollout(message.id, stage, message.champion, message.challenger, arms, message.salt)


def decoded(records: Sequence[Record], topic: Any) -> list[Delivery[Any]]:
    """The records that can be read; the others were logged where they were followed."""
    found: list[Delivery[Any]] = []
    for record in records:
        try:
            found.append(decode(record, topic))
        except IrisloopError:
            continue
    return found


def moment(stamp: Timestamp) -> datetime:
    """Aware, UTC."""
    return stamp.ToDatetime(tzinfo=UTC)
