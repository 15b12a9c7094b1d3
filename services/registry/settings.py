"""Registry's settings, from the environment: `IRISLOOP_REGISTRY__<FIELD>`."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class RegistrySettings(ServiceSettings):
    """Ports and the policy file."""

    model_config = SettingsConfigDict(env_prefix="IRISLOOP_REGISTRY__")

    http_port: int = 8140
    """Port of the HTTP API, health and metrics."""

    grpc_port: int = 8141
    """Port of `irisloop.registry.v1.RegistryService`."""

    policy: Path = Path(__file__).with_name("policy.yaml")
    """The policy file: gates, approvals, and what a promotion does."""
