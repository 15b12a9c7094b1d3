"""Trace and log settings, and calls that need a secret."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from services.serving.domain.restrictions import GROUPS, METHODS, Restrictions
from services.serving.domain.routes import Route, Routes
from services.serving.errors import BadRequest, Restricted, Unsupported
from services.serving.handlers.controls import Controls
from services.serving.inbound.oip import SERVICE


@pytest.fixture
def levels() -> list[int]:
    return []


@pytest.fixture
def controls(levels: list[int]) -> Controls:
    routes = Routes()
    routes.put(Route("m"))
    return Controls(lambda: routes.table, levels.append)


def test_a_models_trace_settings_stand_above_the_servers_until_they_are_set_back(controls: Controls) -> None:
    assert controls.trace("", {"trace_rate": ["10"]})["trace_rate"] == ["10"]
    assert controls.trace("m", {"trace_rate": ["7"]})["trace_rate"] == ["7"]
    assert controls.trace("", {})["trace_rate"] == ["10"]
    assert controls.trace("m", {"trace_rate": None})["trace_rate"] == ["10"]
    assert controls.trace("", {"trace_rate": None})["trace_rate"] == ["1000"]


@pytest.mark.parametrize(
    ("model", "changes", "kind"),
    [
        ("nobody", {}, BadRequest),
        ("", {"trace_rate": ["1", "2"]}, BadRequest),
        ("", {"trace_rate": ["x"]}, BadRequest),
        ("", {"trace_count": ["-2"]}, BadRequest),
        ("", {"trace_level": ["LOUD"]}, BadRequest),
        ("", {"trace_file": ["/etc/passwd"]}, Unsupported),
    ],
)
def test_trace_settings_that_cannot_be_change_nothing(
    controls: Controls, model: str, changes: dict[str, list[str] | None], kind: type[Exception]
) -> None:
    before = controls.trace("", {})
    with pytest.raises(kind):
        controls.trace(model, {"log_frequency": ["5"], **changes})
    assert controls.trace("", {}) == before


def test_log_settings_change_what_is_logged(controls: Controls, levels: list[int]) -> None:
    assert controls.log({})["log_info"] is True
    controls.log({"log_verbose_level": 2})
    controls.log({"log_verbose_level": 0, "log_info": False})
    controls.log({"log_warning": False})
    controls.log({"log_error": False})
    assert levels == [logging.DEBUG, logging.WARNING, logging.ERROR, logging.CRITICAL]


@pytest.mark.parametrize("changes", [{"log_info": 1}, {"log_verbose_level": -1}, {"log_format": "x"}])
def test_log_settings_of_a_wrong_kind_are_refused(controls: Controls, changes: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        controls.log(changes)


def test_every_method_of_the_service_belongs_to_a_group() -> None:
    assert set(METHODS) == {method.name for method in SERVICE.methods}


def test_a_restricted_group_wants_its_header_and_the_others_do_not() -> None:
    rules = Restrictions.parse(["inference,trace:key=secret", "logging:other=x"])
    right = [("triton-grpc-protocol-key", "secret")]
    rules.check_method("ModelInfer", right)
    rules.check_method("ServerLive", [])
    for headers in ([], [("triton-grpc-protocol-key", "wrong")], [("key", "secret")]):
        with pytest.raises(Restricted, match="restricted"):
            rules.check_method("ModelInfer", headers)
    with pytest.raises(Restricted):
        rules.check_method("LogSettings", right)
    assert not Restrictions()


@pytest.mark.parametrize("entry", ["inference", "inference:key", "nobody:key=x", "inference,inference:key=x"])
def test_a_restriction_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(BadRequest):
        Restrictions.parse([entry])
    assert "inference" in GROUPS
