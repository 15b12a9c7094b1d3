"""Settings from the environment: what all services share, and the base of each service's own class.

They are built once, in `__main__` or `build`, and passed down; `os.environ` is read nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MAX_MESSAGE_BYTES: Final = 64 << 20
"""Largest gRPC message between services."""
Durability: TypeAlias = Literal["process", "power"]
"""`process`: what is acknowledged survives SIGKILL. `power`: files, SQLite and Kafka are synced too."""


class KafkaSettings(BaseModel):
    """How to reach the broker; the security fields are what librdkafka and aiokafka call them."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated host:port."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the connection is secured."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Used with SASL_PLAINTEXT and SASL_SSL."""
    sasl_username: str = ""
    """User of SASL."""
    sasl_password: SecretStr = SecretStr("")
    """Password of SASL; never logged."""
    ssl_cafile: Path | None = None
    """PEM of the authorities that signed the broker's certificate; the system's when empty."""
    ssl_certfile: Path | None = None
    """PEM of our certificate, for mutual TLS."""
    ssl_keyfile: Path | None = None
    """PEM of our key, for mutual TLS."""


class Addresses(BaseModel):
    """Where each service answers gRPC, as host:port."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ingest: str = "127.0.0.1:8111"
    """Cameras, assets, the catalogue."""
    labeling: str = "127.0.0.1:8121"
    """Annotations, tasks, dataset versions."""
    trainer: str = "127.0.0.1:8131"
    """Runs and evaluations."""
    registry: str = "127.0.0.1:8141"
    """Models, versions, aliases."""
    serving: str = "127.0.0.1:8001"
    """The Open Inference Protocol, bindings, deployments."""
    monitor: str = "127.0.0.1:8161"
    """Channels, incidents, analytics."""


class CommonSettings(BaseSettings):
    """What every service needs to know; environment `IRISLOOP_<FIELD>`, nested fields by `__`."""

    model_config = SettingsConfigDict(
        env_prefix="IRISLOOP_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    home: Path = Path(".irisloop")
    """Folder of all state on this machine: kafka, db, objects, clickhouse, run, logs."""
    durability: Durability = "process"
    """What an acknowledgement outlives: `process` a kill of any process, `power` also a power cut."""
    kafka: KafkaSettings = KafkaSettings()
    """The broker."""
    addresses: Addresses = Addresses()
    """The neighbours."""
    replica: int = Field(default=0, ge=0)
    """Number of this instance among the replicas of its service; stable over restarts."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lines below it are dropped."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""
    otlp_endpoint: str = ""
    """OTLP/gRPC collector (http://host:4317) for spans; ids alone are passed on when empty."""
    objects_url: str = ""
    """Object store: a folder, or s3://bucket/prefix (credentials as AWS_* say); home/objects when empty."""
    database_url: SecretStr = SecretStr("")
    """postgresql+psycopg://user:password@host/database, one schema a service; SQLite files in home/db when empty."""

    @property
    def objects(self) -> str:
        """The object store's URL or folder, never empty."""
        return self.objects_url or str(self.home.absolute() / "objects")


class ServiceSettings(BaseSettings):
    """Base of each service's settings; a subclass sets `env_prefix="IRISLOOP_<SERVICE>__"` and its own ports."""

    model_config = SettingsConfigDict(
        env_prefix="IRISLOOP_SERVICE__",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    http_port: int = Field(default=0, ge=0, le=65535)
    """HTTP port; 0 takes a free one."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """gRPC port; 0 takes a free one."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """One more port for /metrics, beside the one of HTTP; none when empty."""
    connection_patience_s: float = Field(default=60.0, gt=0)
    """An HTTP connection that sends no request, or takes less than 64 KiB of its answers, for so long is closed."""
    tls_certificate: Path | None = None
    """PEM of the certificate that gRPC shows; without it gRPC is not encrypted."""
    tls_key: Path | None = None
    """PEM of its private key."""
    tls_client_ca: Path | None = None
    """PEM of the authorities whose client certificates are asked for (mutual TLS); none are when empty."""
    common: CommonSettings = Field(default_factory=CommonSettings)
    """What all services share, read from `IRISLOOP_<FIELD>`."""
