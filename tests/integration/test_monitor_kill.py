"""Two monitors as processes on a real Kafka, killed under load: what they say and store is the same to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from irisloop.topics import DRIFT_DETECTED

from tests.bench.monitor.crash import compare, run
from tests.bench.monitor.recording import record

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


async def test_killed_monitors_say_and_store_the_same_to_the_bit(tmp_path: Path) -> None:
    raws = record(seed=2, frames=4500)
    still = await run(tmp_path / "still", raws, kills=0, seed=0, environment={})
    killed = await run(tmp_path / "killed", raws, kills=3, seed=3, environment={})
    found = compare(still, killed)
    assert found[DRIFT_DETECTED.name]["still"] > 0
    assert found["predictions"]["still"] == 4500
    assert [name for name, row in found.items() if not row["same"]] == []
    assert len(killed.kills) == 3
    assert killed.kills[-1] == "01"
    assert killed.restored > 0, "after a kill of both somebody takes up what they had written"
