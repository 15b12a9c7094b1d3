"""Settings of the one-machine deployment, environment `IRISLOOP_LOCAL__<FIELD>`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import CommonSettings


def default_cache() -> Path:
    """Where downloads outlive a clone."""
    return Path.home() / ".cache" / "irisloop"


class LocalSettings(BaseSettings):
    """What the supervisor and the commands need to know."""

    model_config = SettingsConfigDict(
        env_prefix="IRISLOOP_LOCAL__",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    cache: Path = Field(default_factory=default_cache)
    """Folder of downloaded jars, shared by all clones and homes of this user."""
    maven_repository: str = ""
    """Maven repository to fetch Kafka's jars from; Maven Central, or what jgo's own file says, when empty."""
    kafka_port: int = Field(default=9092, ge=1, le=65535)
    """Port of the embedded Kafka."""
    kafka_controller_port: int = Field(default=9093, ge=1, le=65535)
    """Port of the embedded Kafka's controller, used by itself alone."""
    kafka_heap_mb: int = Field(default=256, ge=128)
    """Heap of the embedded Kafka in MiB."""
    metrics_port: int = Field(default=8002, ge=1, le=65535)
    """Serving's port of /metrics, where Triton's clients look for it."""
    min_free_mb: int = Field(default=1024, ge=0)
    """Free disk space below which nothing is started, in MiB."""
    log_mb: int = Field(default=16, ge=1)
    """Size at which a log file is moved to `<name>.log.1`, in MiB; one old file is kept."""
    drain_s: float = Field(default=10.5, gt=0)
    """Seconds that a service has to end by itself before it is killed."""
    common: CommonSettings = Field(default_factory=CommonSettings)
    """What all services share, read from `IRISLOOP_<FIELD>`."""

    @property
    def home(self) -> Path:
        """IRISLOOP_HOME, absolute."""
        return self.common.home.expanduser().absolute()

    @property
    def run_folder(self) -> Path:
        """Lock and state of the running deployment."""
        return self.home / "run"

    @property
    def log_folder(self) -> Path:
        """One log file a process."""
        return self.home / "logs"

    @property
    def own_kafka(self) -> bool:
        """Whether the user named a broker, so that none is embedded."""
        common = self.common
        return "kafka" in common.model_fields_set and "bootstrap_servers" in common.kafka.model_fields_set
