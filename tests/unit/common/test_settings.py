"""Settings come from the environment, cannot be changed, and keep their secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from services.common.settings import CommonSettings, ServiceSettings


class SampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="IRISLOOP_SAMPLE__")

    http_port: int = 8990
    limit_mb: int = 8
    """A field of the service's own."""


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("IRISLOOP_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_the_laptop_of_the_design() -> None:
    common = CommonSettings()
    assert common.home == Path(".irisloop")
    assert common.durability == "process"
    assert common.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert common.addresses.serving == "127.0.0.1:8001"
    assert common.objects == str(Path(".irisloop").absolute() / "objects")


def test_nested_fields_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRISLOOP_KAFKA__BOOTSTRAP_SERVERS", "kafka:9093")
    monkeypatch.setenv("IRISLOOP_ADDRESSES__LABELING", "labeling:1")
    monkeypatch.setenv("IRISLOOP_REPLICA", "2")
    common = CommonSettings()
    assert common.kafka.bootstrap_servers == "kafka:9093"
    assert common.addresses.labeling == "labeling:1"
    assert common.addresses.ingest == "127.0.0.1:8111"
    assert common.replica == 2


def test_a_service_reads_its_own_prefix_and_the_common_one_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRISLOOP_SAMPLE__HTTP_PORT", "1234")
    monkeypatch.setenv("IRISLOOP_OTHER__HTTP_PORT", "9")
    monkeypatch.setenv("IRISLOOP_HOME", "/somewhere")
    settings = SampleSettings()
    assert (settings.http_port, settings.limit_mb) == (1234, 8)
    assert settings.common.home == Path("/somewhere")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        setattr(CommonSettings(), "home", Path("/other"))  # noqa: B010 - mypy knows that it is frozen


def test_a_wrong_value_names_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRISLOOP_SAMPLE__GRPC_PORT", "90000")
    with pytest.raises(ValidationError, match="grpc_port"):
        SampleSettings()


def test_no_secret_shows_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRISLOOP_KAFKA__SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("IRISLOOP_DATABASE_URL", "postgresql+psycopg://user:hunter2@host/db")
    common = CommonSettings()
    assert common.kafka.sasl_password.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{common!r} {common} {common.model_dump_json()}"


@pytest.mark.parametrize("settings", [CommonSettings, ServiceSettings])
def test_every_field_is_documented(settings: type[CommonSettings] | type[ServiceSettings]) -> None:
    assert [name for name, field in settings.model_fields.items() if not field.description] == []
