"""Monitor's analytics filled through the bus, with ClickHouse's protocol answered on a port, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from services.monitor.domain.sql import Limits
from services.monitor.inbound.sql import SqlFront, serve
from services.monitor.outbound.clickhouse import ClickHouse
from services.monitor.outbound.embedded import EmbeddedReader
from tests.waiting import PATIENCE_S

LIMITS = Limits(seconds=2.0, rows=10_000, memory_mb=256)


@contextlib.asynccontextmanager
async def answering(warehouse: ClickHouse, limits: Limits = LIMITS, password: str = "") -> AsyncIterator[int]:
    """The port where it is answered; the warehouse is open."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with EmbeddedReader(warehouse.path, limits) as engine:
        serving = asyncio.create_task(serve(SqlFront(engine, password), "127.0.0.1", 0, port.set_result))
        try:
            yield await asyncio.wait_for(port, PATIENCE_S)
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def opened(folder: Path) -> ClickHouse:
    """The engine in process, its tables made."""
    warehouse = ClickHouse(folder, "", keep_days=3_650)
    await warehouse.open()
    return warehouse
