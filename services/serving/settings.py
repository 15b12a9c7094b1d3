"""Serving's settings, from the environment: `IRISLOOP_SERVING__<FIELD>`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings
from services.serving.domain.sampling import Policy, Rule, policy_of

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class ServingSettings(ServiceSettings):
    """Ports, the runtime, queues, and what becomes an event."""

    model_config = SettingsConfigDict(env_prefix="IRISLOOP_SERVING__")

    http_port: int = 8000
    """Port of the HTTP API, health and metrics."""

    grpc_port: int = 8001
    """Port of the Open Inference Protocol and of `irisloop.serving.v1.ServingService`."""

    metrics_port: int | None = 8002
    """One more port for /metrics, where clients of Triton look for it; none when empty."""

    allow_unsigned: bool = False
    """Load packages without a signature; a wrong signature is refused all the same."""

    standalone: bool = False
    """Serve the model folder alone: no Kafka, no registry, no cameras; what `irisloop serve` does."""

    model_repository: str = ""
    """A folder of models as Triton or MLServer have it, or s3://bucket/prefix; none when empty."""

    model_control: Literal["none", "poll", "explicit"] = "none"
    """Of the model folder: load all at the start; follow its changes; or load by call."""

    load_models: tuple[str, ...] = ()
    """With `explicit` control: models loaded at the start, `*` for all."""

    poll_s: float = Field(default=15.0, gt=0)
    """With `poll` control: how often the folder is looked at."""

    strict_readiness: bool = False
    """Be ready only when every model of the folder is loaded."""

    strict_config: bool = False
    """Refuse models whose config.pbtxt is missing or not whole, instead of completing it from the graph."""

    model_config_name: str = ""
    """Prefer `configs/<name>.pbtxt` of a model to its config.pbtxt."""

    default_max_batch: int = Field(default=4, ge=0, le=4096)
    """max_batch_size of a model of the folder whose graph can batch and whose configuration does not say."""

    exit_on_error: bool = False
    """End the start when a model of the folder does not load."""

    threads: int = Field(default=1, ge=1, le=64)
    """onnxruntime's threads inside one operator, for each loaded version."""

    workers: int = Field(default=4, ge=1, le=256)
    """Threads that run models; all versions share them."""

    max_batch: int = Field(default=64, ge=1, le=4096)
    """Most images in one run, whatever a package allows."""

    queue: int = Field(default=1024, ge=1)
    """Most images of calls that wait for one version; further calls are answered UNAVAILABLE."""

    max_request_mb: int = Field(default=64, ge=1, le=2047)
    """Largest request and answer, MiB."""

    unread_mb: int = Field(default=512, ge=1)
    """Answers above 64 KiB that wait for their readers, over all transports, MiB; further ones are answered
    UNAVAILABLE (HTTP 503) instead.
    """

    grpc_restricted: tuple[str, ...] = ()
    """`<group,...>:<header>=<value>`: calls of these groups need the header (with Triton's prefix) to say the value."""

    http_restricted: tuple[str, ...] = ()
    """The same for HTTP, without a prefix."""

    transport: Literal["grpcio", "pygrpc"] = "grpcio"
    """What takes gRPC calls; pygrpc is quicker, has no TLS, and needs the package pygrpc-native."""

    image_mb: int = Field(default=32, ge=1, le=512)
    """Largest encoded image, MiB."""

    image_pixels: int = Field(default=100_000_000, ge=1)
    """Most pixels of an encoded image; larger ones are refused by their header, undecoded."""

    shared_memory: bool = True
    """Whether clients may register system shared memory."""

    stream_batch: int = Field(default=16, ge=1, le=512)
    """Most images of cameras in one run, so that a call waits for few of them."""

    decode_threads: int = Field(default=2, ge=1, le=32)
    """Threads that decode images."""

    dedup_tail: int = Field(default=20_000, ge=1)
    """Predictions of a partition that are remembered, to know a repeated asset."""

    direct_events: bool = True
    """Whether clients' calls become prediction events too."""

    direct_buffer: int = Field(default=10_000, ge=1)
    """Most client predictions that wait for the disk; further ones are dropped and counted."""

    spool_mb: int = Field(default=512, ge=16)
    """Client predictions kept on disk while Kafka is away, MiB; the oldest are given up beyond it, and counted."""

    sample_share: Share = 0.0
    """Inputs of clients' calls that go to ingest as assets: this share of all that are images."""

    sample_low_share: Share = 0.0
    """The same of those whose answer is not sure, beside the others."""

    sample_low_confidence: Share = 0.5
    """An answer is not sure when no class has this probability."""

    sample_drift_share: Share = 0.0
    """The same of all while the monitor reports drift of the model, beside the others."""

    sample_models: tuple[str, ...] = ()
    """Models that differ: `<model>:share=0.1,low_share=0.5,low_confidence=0.6,drift_share=1`, or some of these."""

    sample_mb: int = Field(default=128, ge=16)
    """Sampled inputs kept on disk until Kafka has them, MiB; the oldest are given up beyond it, and counted."""

    shadow_mb: int = Field(default=64, ge=1, le=4096)
    """Input tensors of calls that wait to be compared with another version, MiB; further calls are not compared."""

    bindings_refresh_s: float = Field(default=0.25, gt=0)
    """How often a replica looks whether another changed the bindings."""

    @property
    def sampling(self) -> Policy:
        """Which inputs of clients' calls are kept."""
        default = Rule(self.sample_share, self.sample_low_share, self.sample_low_confidence, self.sample_drift_share)
        return policy_of(default, self.sample_models)

    @field_validator("sample_models")
    @classmethod
    def _check_models(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        policy_of(Rule(), entries)
        return entries
