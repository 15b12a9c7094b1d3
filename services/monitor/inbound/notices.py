"""`alert raised` to those who want to know. Each target reads for itself: one who is away keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import ALERT_RAISED

from services.common.bus import Bus, Delivery, Subscription
from services.common.errors import PoisonedDelivery
from services.common.metrics import MONITOR_NOTICES
from services.common.telemetry import log
from services.monitor.domain.notices import AnyTarget, Notice
from services.monitor.errors import Undeliverable

Send = Callable[[AnyTarget, Notice], Awaitable[None]]


def subscribe(bus: Bus, targets: Sequence[AnyTarget], send: Send, clock: Callable[[], datetime] | None = None) -> None:
    """Declare each target's own reading; it goes on where it stopped, tries again what may pass, in order."""
    for target in targets:
        handle = _teller(target, send, clock or (lambda: datetime.now(UTC)))
        bus.subscribe(Subscription(ALERT_RAISED, f"tell-{target.name}", handle, max_batch=1))


def notice_of(delivery: Delivery[monitor_pb2.AlertRaised]) -> Notice:
    """The event in the words of notices."""
    alert = delivery.value
    raised_at = delivery.ce_time.astimezone(UTC)
    return Notice(alert.id, alert.model, alert.incident_id, alert.severity, alert.summary, raised_at, alert.kind)


def _teller(target: AnyTarget, send: Send, clock: Callable[[], datetime]) -> Callable[..., Any]:
    async def tell(batch: Sequence[Delivery[monitor_pb2.AlertRaised]]) -> None:
        for place, delivery in enumerate(batch):
            notice = notice_of(delivery)
            if not target.wants(notice):
                continue
            if target.is_over(notice, clock()):
                MONITOR_NOTICES.labels(target.name, "over").inc()
                log.info("notice_over", target=target.name, alert=notice.id, raised_at=notice.raised_at.isoformat())
                continue
            try:
                await send(target, notice)
            except Undeliverable as error:
                MONITOR_NOTICES.labels(target.name, "refused").inc()
                raise PoisonedDelivery(place, str(error), reason=error.reason) from error
            MONITOR_NOTICES.labels(target.name, "sent").inc()

    return tell
