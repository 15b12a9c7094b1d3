"""An insert that is cancelled ends as cancelled, whether it waits or is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from services.monitor.domain.rows import Batch, Messages, Rows
from services.monitor.domain.tables import PREDICTIONS
from services.monitor.outbound.clickhouse import ClickHouse


class Written:
    """Instead of a writer."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def insert(self, batches: Sequence[Batch]) -> None:
        self.batches += batches


async def test_a_cancelled_insert_is_cancelled_also_when_another_has_taken_it_along(tmp_path: Path) -> None:
    warehouse, written = ClickHouse(tmp_path, "", keep_days=1), Written()
    warehouse._opened.set()
    warehouse._writer = cast(Any, written)
    slow = [Messages(PREDICTIONS, "topic", partition, [1], [b""], [0]) for partition in (0, 1)]
    quick = Rows(PREDICTIONS, "topic", 2, [1], [])
    async with warehouse:
        waiting = asyncio.create_task(warehouse.insert(slow[0]))
        await asyncio.sleep(0)
        await warehouse.insert(quick)
        assert written.batches == [slow[0], quick]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        alone = asyncio.create_task(warehouse.insert(slow[1]))
        await asyncio.sleep(0)
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone
        await warehouse.insert(quick)
        assert written.batches == [slow[0], quick, quick], "what was cancelled while it waited is not written"
