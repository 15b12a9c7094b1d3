"""Trainer's settings, from the environment: `IRISLOOP_TRAINER__<FIELD>`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class TrainerSettings(ServiceSettings):
    """Ports, and how runs are carried out."""

    model_config = SettingsConfigDict(env_prefix="IRISLOOP_TRAINER__")

    http_port: int = 8130
    """Port of the HTTP API, health and metrics."""

    grpc_port: int = 8131
    """Port of `irisloop.trainer.v1.TrainerService`."""

    epochs: int = Field(default=6, ge=1, le=1000)
    """Epochs of a run from scratch; one that starts warm takes `warm_epochs`."""

    warm_epochs: int = Field(default=8, ge=1, le=1000)
    """Epochs of a run that starts from the champion's weights."""

    warm_steps: int = Field(default=50, ge=1)
    """Optimizer steps in each epoch of a warm run."""

    batch: int = Field(default=128, ge=2)
    """Images a step."""

    new_share: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Share of each batch drawn from the new condition, when the dataset version has one."""

    flip: bool = False
    """Mirror half of the training images: only where left and right mean the same."""

    longest_side: int = Field(default=64, ge=16, le=256)
    """Images larger than this are scaled down to it, in pixels; smaller ones keep their size."""

    threads: int = Field(default=0, ge=0)
    """Threads of torch in a run's process; 0 takes half of the cores and leaves the others to the services."""

    niceness: int = Field(default=5, ge=0, le=19)
    """How far a run steps back behind the services on the same machine."""

    most_attempts: int = Field(default=5, ge=1)
    """A run whose process ended so often without an answer has failed."""

    label_poll_seconds: float = Field(default=5.0, gt=0.0)
    """How often labeling is asked how many labels a waiting run still misses."""
