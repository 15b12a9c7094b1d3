"""A monitor that was away for long catches up on a real Kafka, and takes no busy partition for silent cameras."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from irisloop.topics import ALERT_RAISED, DRIFT_DETECTED, PREDICTION_MADE

from services.common.bus import KafkaBus
from services.common.bus.cloudevents import Raw
from services.common.bus.producing import raw_of
from services.common.settings import CommonSettings
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.inputs import Seen
from tests.bench.monitor.crash import committed, monitors
from tests.bench.monitor.recording import Feed
from tests.integration.ingest_house import running_kafka
from tests.unit.monitor.records import event
from tests.unit.monitor.worlds import EPOCH

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

BUSY, QUIET = 10, 1
"""Cameras in the first partition, and in the second."""
SECONDS = 900


def frames() -> Iterator[Raw]:
    """A quarter of an hour of all cameras, a frame a second each, in which nothing changes."""
    rng = np.random.default_rng(1)
    for second in range(SECONDS):
        for camera in range(BUSY + QUIET):
            name, number = f"camera-{camera}", f"{second}-{camera}"
            features = tuple(rng.normal(size=WIDTH).tolist())
            at = EPOCH + second + camera / 100
            seen = Seen(at, number, "", "m", "1", "champion", name, f"asset-{number}", "class-0", 0.9, features)
            raw = raw_of(event(seen), "serving")
            yield Raw(raw.topic, raw.key, raw.value, raw.headers, 0 if camera < BUSY else 1)


async def test_an_uneven_backlog_is_judged_in_its_order_and_nobody_is_called_silent(tmp_path: Path) -> None:
    async with running_kafka(tmp_path / "kafka") as kafka:
        raws = list(frames())
        async with Feed(kafka, raws) as feed:
            for end in range(0, len(raws) + 1, 2 * (BUSY + QUIET)):  # A partition is written at a time.
                await feed.up_to(end)
        one, _ = monitors(tmp_path, kafka, {"IRISLOOP_MONITOR__TICKS": "true"})
        one.start()
        try:
            await one.ready()
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
            await admin.start()
            try:
                ends = {(PREDICTION_MADE.name, 0): BUSY * SECONDS, (PREDICTION_MADE.name, 1): QUIET * SECONDS}
                await committed(admin, "judge-drift", ends)
            finally:
                await admin.close()
            async with httpx.AsyncClient(timeout=60) as client:
                shown = (await client.get(f"http://127.0.0.1:{one.http_port}/metrics")).text.splitlines()
        finally:
            one.kill()
        async with KafkaBus(CommonSettings(home=tmp_path / "reader", kafka=kafka), "test") as bus:
            assert await bus.read(DRIFT_DETECTED, 0) == []
            assert await bus.read(ALERT_RAISED, 0) == []
    assert "irisloop_monitor_late_total 0.0" in shown
