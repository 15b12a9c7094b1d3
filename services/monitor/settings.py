"""Monitor's settings, from the environment: `IRISLOOP_MONITOR__<FIELD>`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings

Role = Literal["detection", "analytics"]


class MonitorSettings(ServiceSettings):
    """Ports, roles, the policy file, and where analytics are kept."""

    model_config = SettingsConfigDict(
        env_prefix="IRISLOOP_MONITOR__",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    http_port: int = Field(default=8160, ge=0, le=65535)
    """Port of the HTTP API, health and metrics."""

    grpc_port: int = Field(default=8161, ge=0, le=65535)
    """Port of `irisloop.monitor.v1.MonitorService`."""

    roles: tuple[Role, ...] = ("detection", "analytics")
    """What this instance does: `detection` judges, `analytics` alone opens ClickHouse (as JSON: ["detection"])."""

    policy: Path = Path(__file__).with_name("policy.yaml")
    """What is watched for, when it is sure, and when a retraining pays."""

    notices: Path | None = None
    """YAML file that names who is told of alerts: webhooks, Alertmanager, mail; nobody when empty."""

    clickhouse_url: str = ""
    """ClickHouse server, as http://user:password@host:8123/database; the engine in process, under home, when empty."""

    analytics_days: int = Field(default=90, ge=1, le=3650)
    """How long rows are kept in ClickHouse."""

    pace_seconds: float = Field(default=1.0, ge=0, le=5)
    """The judge takes a batch at most so often, unless batches are full: its state is written with every batch."""
