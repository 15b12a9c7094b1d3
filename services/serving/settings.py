"""Serving's settings, from the environment: `IRISLOOP_SERVING__<FIELD>`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


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

    threads: int = Field(default=1, ge=1, le=64)
    """onnxruntime's threads inside one operator, for each loaded version."""

    max_batch: int = Field(default=64, ge=1, le=4096)
    """Most images in one run, whatever a package allows."""

    queue: int = Field(default=1024, ge=1)
    """Most images of calls that wait for one version; further calls are answered UNAVAILABLE."""

    stream_batch: int = Field(default=16, ge=1, le=512)
    """Most images of cameras in one run, so that a call waits for few of them."""

    decode_threads: int = Field(default=2, ge=1, le=32)
    """Threads that decode images."""

    dedup_tail: int = Field(default=20_000, ge=1)
    """Predictions of a partition that are remembered, to know a repeated asset."""

    direct_events: bool = True
    """Whether clients' calls become prediction events too."""

    direct_buffer: int = Field(default=10_000, ge=1)
    """Most client predictions that wait to become events; further ones are dropped and counted."""

    bindings_refresh_s: float = Field(default=0.25, gt=0)
    """How often a replica looks whether another changed the bindings."""
