"""Monitor's settings, from the environment: `IRISLOOP_MONITOR__<FIELD>`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
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

    sql: bool = True
    """Whether ClickHouse's HTTP protocol is answered, read-only, while there is no server; one answers itself."""

    sql_host: str = "127.0.0.1"
    """Address where it is answered, without TLS."""

    sql_port: int = Field(default=8162, ge=0, le=65535)
    """Port where it is answered; 0 takes a free one."""

    sql_password: SecretStr = SecretStr("")
    """What clients have to give, under any user name; nothing when empty."""

    sql_max_seconds: float = Field(default=30.0, gt=0, le=3600)
    """How long a query may take."""

    sql_max_rows: int = Field(default=1_000_000, ge=1)
    """How many rows an answer may have."""

    sql_max_memory_mb: int = Field(default=512, ge=16)
    """What a query may use, in MiB; two run at a time. An answer may be half as large."""

    pace_seconds: float = Field(default=1.0, ge=0, le=5)
    """The judge takes a batch at most so often, unless batches are full: its state is written with every batch."""

    ticks: bool = True
    """Whether the judge itself says when it is time to judge (`clock ticked`); off where ticks are played back."""
