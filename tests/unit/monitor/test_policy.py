"""The policy file: what is wrong is named by its field, and a model may depart from the file."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml

from services.monitor.domain.policy import Policy
from services.monitor.domain.policy_reading import written
from tests.unit.monitor.worlds import POLICY_FILE, policy

WHOLE: dict[str, Any] = yaml.safe_load(POLICY_FILE.read_text(encoding="utf-8"))


def with_field(path: str, value: Any) -> dict[str, Any]:
    document = deepcopy(WHOLE)
    *sections, name = path.split(".")
    place = document
    for section in sections:
        place = place.setdefault(section, {})
    place[name] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("retrain.cost_of_run", "5", "retrain.cost_of_run must be a number of at least 0, not '5'"),
        ("retrain.cost_of_run", float("nan"), "retrain.cost_of_run must be a number"),
        ("retrain.budget_a_day", 1.5, "retrain.budget_a_day must be a whole number"),
        ("retrain.approval", "boss", "retrain.approval must be none or person, not 'boss'"),
        (
            "channels.detector",
            "ddm",
            "channels.detector must be one of adwin, cusum, kswin, page-hinkley, not 'ddm', which watches labels of 0",
        ),
        (
            "labels.detector",
            "cusum",
            "labels.detector must be one of adwin, ddm, .*not 'cusum', which watches standard",
        ),
        ("labels.detector", "adwim", "labels.detector must be one of adwin, .*page-hinkley, not 'adwim'$"),
        ("channels.detector", 3, "channels.detector must be a detector's name, or a mapping .*, not 3"),
        ("channels.detector", {"delta": 0.1}, "channels.detector must be a detector's name, or a mapping"),
        ("channels.detector", {"name": "adwin", "colour": 1}, "channels.detector: detector 'adwin' has no option 'col"),
        ("channels.detector", {"name": "adwin", "delta": "x"}, "channels.detector.delta must be a number, .* not 'x'"),
        ("channels.detector", {"name": "cusum", "allowance": 1}, "channels.detector: 'cusum' takes no options here"),
        ("models.gate.labels", {"detector": "kwsin"}, "models.gate.labels.detector must be one of adwin"),
        ("retrain.quiet_hours", "at night", "retrain.quiet_hours must be a list"),
        ("retrain.quiet_hours", [{"from": "22:00"}], r"retrain.quiet_hours\[0\] must be"),
        ("retrain.quiet_hours", [{"from": 1320, "to": "06:00"}], r"quiet_hours\[0\].from must be a time.*in quotes"),
        ("retrain.quiet_hours", [{"from": "1:00", "to": "01:00"}], "both 01:00"),
        ("retrain.quiet_hours", [{"from": "22:00", "to": "24:00"}], r"quiet_hours\[0\].to must be a time"),
        ("retrain.quiet_hours", [{"from": "22:00", "to": "6:00", "zone": "Mars/X"}], r"quiet_hours\[0\].zone must be"),
        ("retrain.coldown", 1, "policy: retrain: unknown: coldown; known are labels_wanted"),
        ("retrian", {}, "policy: unknown: retrian"),
        ("harm", [], "policy: harm must be a mapping"),
        ("models", ["gate"], "models must be a mapping"),
        ("models.gate.retrain.cost", 1, "policy: models.gate.retrain: unknown: cost"),
        ("models.gate.retrain.cost_of_error", -1, "models.gate.retrain.cost_of_error must be a number"),
        ("models.gate.merge", {"lateness_seconds": 2}, "models.gate.merge is one for all models"),
        ("quality.alpha", 2, "quality.alpha must lie between 0 and 1"),
        ("probe.assets", 1001, r"probe.assets must be a whole number of 0 \(no probe\) to 1000, not 1001"),
        ("probe.assets", 0.5, "probe.assets must be a whole number of at least 0, not 0.5"),
        ("probe.wait_seconds", 0, "probe.wait_seconds must be above 0; assets: 0 holds no probe"),
        ("probe.error_rate", 1, "probe.error_rate must lie between 0 and 1, not 1.0"),
        ("probe.usual", 0.5, "probe.usual must lie between 0 and 0.5, not 0.5"),
        ("probe.asset", 3, "policy: probe: unknown: asset; known are assets, wait_seconds, error_rate, usual"),
        ("models.gate.probe.usual", 0.7, "models.gate.probe.usual must lie between 0 and 0.5"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Policy.read(with_field(path, value))


def test_what_is_missing_is_named() -> None:
    document = deepcopy(WHOLE)
    del document["retrain"]["cost_of_run"]
    with pytest.raises(ValueError, match="policy: retrain: missing: cost_of_run"):
        Policy.read(document)
    del document["retrain"]
    with pytest.raises(ValueError, match="policy: missing: retrain"):
        Policy.read(document)


def test_a_model_departs_from_the_file_in_what_it_names_and_in_nothing_else() -> None:
    read = Policy.read(with_field("models.gate", {"retrain": {"cost_of_error": 0.5, "approval": "person"}}))
    assert (read.of("gate").retrain.cost_of_error, read.of("gate").retrain.approval) == (0.5, True)
    assert read.of("gate").retrain.cost_of_run == read.retrain.cost_of_run
    assert read.of("gate").harm == read.harm
    assert read.of("other").retrain == policy().retrain


def test_a_file_of_before_these_fields_still_holds() -> None:
    document = deepcopy(WHOLE)
    for name in ("cooldown_trainings", "labels_between", "approval", "quiet_hours"):
        del document["retrain"][name]
    del document["models"]
    read = Policy.read(document)
    assert (read.retrain.approval, read.retrain.quiet_hours, read.models) == (False, (), {})


@pytest.mark.parametrize("said", ["page-hinkley", {"name": "page-hinkley", "threshold": 280, "min_instances": 40}])
def test_a_detector_is_written_as_it_is_read_with_its_options(said: Any) -> None:
    read = Policy.read(with_field("channels.detector", said))
    assert written(read)["channels"]["detector"] == said
    assert Policy.read(written(read)) == read
    made = read.channels.detector.make(2, {"run_length": 1e5})
    assert made.name == "page-hinkley"


def test_a_file_of_before_labels_had_a_detector_means_the_e_detector() -> None:
    document = deepcopy(WHOLE)
    del document["labels"]["detector"], document["channels"]["detector"]
    assert Policy.read(document) == policy()


def test_a_policy_is_written_as_it_is_read() -> None:
    hours = [{"from": "22:00", "to": "06:30", "zone": "Europe/Berlin"}]
    read = Policy.read(with_field("retrain.quiet_hours", hours))
    assert written(read)["retrain"]["quiet_hours"] == hours
    assert Policy.read(written(read)) == read


def test_a_model_may_hold_no_probe_while_the_others_do() -> None:
    read = Policy.read(with_field("models.gate.probe.assets", 0))
    assert (read.of("gate").probe.assets, read.of("other").probe.assets) == (0, 30)
    del (without := deepcopy(WHOLE))["probe"]
    assert Policy.read(without).probe == read.probe
