"""Requests for retraining and new dataset versions, off the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import DATASET_VERSION_CREATED, RETRAIN_REQUESTED

from services.common.bus import Bus, Delivery, Subscription
from services.common.errors import PoisonedDelivery
from services.common.telemetry import bind_trace
from services.trainer import wire
from services.trainer.handlers import Handlers, Order


@dataclass(frozen=True, slots=True)
class Listener:
    """Hands each message to its handler."""

    handlers: Handlers

    def listen(self, bus: Bus) -> None:
        """Declare what trainer hears."""
        bus.subscribe(Subscription(RETRAIN_REQUESTED, "open-runs", self.open_runs))
        bus.subscribe(Subscription(DATASET_VERSION_CREATED, "start-waiting-runs", self.start_waiting_runs))

    async def open_runs(self, batch: Sequence[Delivery[monitor_pb2.RetrainRequested]]) -> None:
        """One run for each request."""
        for place, delivery in enumerate(batch):
            request = delivery.value
            if not request.request_id or not request.model:
                raise PoisonedDelivery(place, "a request needs `request_id` and `model`", field="request_id")
            order = Order(
                model=request.model,
                dataset="",
                requested_by="monitor",
                request_id=request.request_id,
                labels_since=_time(request, "labels_since"),
                labels_wanted=request.labels_wanted,
                cameras=tuple(request.cameras),
                expires_at=_time(request, "expires_at"),
            )
            with bind_trace(delivery.traceparent):
                await self.handlers.open_run(order)

    async def start_waiting_runs(self, batch: Sequence[Delivery[labeling_pb2.DatasetVersionCreated]]) -> None:
        """Queue the run that waits for this version, if one does."""
        for delivery in batch:
            version = delivery.value.version
            if version.request_id:
                await self.handlers.queue_waiting_run(version.request_id, wire.version_value(version))


def _time(request: monitor_pb2.RetrainRequested, field: Literal["labels_since", "expires_at"]) -> datetime | None:
    return wire.time_value(getattr(request, field), field) if request.HasField(field) else None
