"""Which services there are and where they listen by default; the page that commands read before anything heavy."""

from __future__ import annotations

from typing import Final

HOST: Final = "127.0.0.1"
SERVICES: Final = ("ingest", "labeling", "trainer", "registry", "serving", "monitor")
HTTP_PORTS: Final = {
    "ingest": 8110,
    "labeling": 8120,
    "trainer": 8130,
    "registry": 8140,
    "serving": 8000,
    "monitor": 8160,
}
GRPC_PORTS: Final = {
    "ingest": 8111,
    "labeling": 8121,
    "trainer": 8131,
    "registry": 8141,
    "serving": 8001,
    "monitor": 8161,
}
SQL_PORT: Final = 8162
"""Where monitor answers ClickHouse's protocol."""
