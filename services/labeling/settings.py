"""Labeling's settings, from the environment: `IRISLOOP_LABELING__<FIELD>`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings


class LabelingSettings(ServiceSettings):
    """Ports, and how many tasks are drawn from what."""

    model_config = SettingsConfigDict(
        env_prefix="IRISLOOP_LABELING__",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    http_port: int = Field(default=8120, ge=0, le=65535)
    """Port of the HTTP API, health and metrics."""

    grpc_port: int = Field(default=8121, ge=0, le=65535)
    """Port of `irisloop.labeling.v1.LabelingService`."""

    uniform_share: float = Field(default=0.08, ge=0, le=1)
    """Probability with which a champion's prediction is drawn at random: the labels that estimate risk."""

    uniform_floor: float = Field(default=0.002, gt=0, le=1)
    """The probability never falls below it, however many predictions a second there are."""

    tasks_per_second: float = Field(default=10.0, gt=0)
    """Random and uncertain draws together, a second of event time and instance; above it both shares shrink."""

    uncertainty_share: float = Field(default=0.1, ge=0, le=1)
    """Probability at margin 0; it falls with the square of the margin."""

    drift_tasks: int = Field(default=150, ge=0)
    """Tasks drawn for an incident, to tell whether it hurts."""

    drift_share: float = Field(default=0.3, gt=0, le=1)
    """Share of a drifted camera's later predictions that is drawn, until `drift_tasks` are."""

    request_share: float = Field(default=0.5, gt=0, le=1)
    """Share of arriving predictions that may be drawn for an open request: near frames teach little more than one."""

    request_uncertainty: float = Field(default=0.2, ge=0, le=1)
    """How much the draws for a request lean to uncertain predictions; 0 is uniform."""

    request_surplus: float = Field(default=1.1, ge=1)
    """Tasks drawn for each label wanted: some are skipped."""

    open_tasks: int = Field(default=5_000, ge=1)
    """Beyond it the oldest uncertain, then the oldest random tasks are closed."""

    kept_predictions: int = Field(default=200_000, ge=1_000)
    """Predictions and assets kept to draw from; the oldest go first."""

    kept_days: float = Field(default=7.0, gt=0)
    """And none for longer than so many days."""
