"""The JSON of configurations and statistics: numbers are numbers, and text that looks like one stays text."""

from __future__ import annotations

from inference import model_config_pb2

from services.serving.domain.routes import Version
from services.serving.domain.statistics import Execution, Statistics
from services.serving.handlers.catalog import IndexEntry
from services.serving.inbound.v2.forms import config_form, entry_form, statistics_form
from tests.unit.serving.test_repository import Idle
from tests.unit.serving.v2_house import CONFIG


def config() -> model_config_pb2.ModelConfig:
    found = model_config_pb2.ModelConfig(name="7", max_batch_size=8, backend="5")
    found.input.add(name="1", data_type=model_config_pb2.TYPE_FP32, dims=[-1, 2**40])
    found.version_policy.specific.versions.extend([1, 3])
    found.parameters["9"].string_value = "10"
    step = found.ensemble_scheduling.step.add(model_name="123", model_version=-1)
    step.input_map["4"] = "5"
    return found


def test_integers_of_64_bits_are_numbers_wherever_they_stand() -> None:
    form = config_form(config().SerializeToString())
    assert form["input"][0]["dims"] == [-1, 2**40]
    batched = model_config_pb2.ModelConfig()
    batched.dynamic_batching.priority_queue_policy[2**33].default_timeout_microseconds = 2**50
    (policy,) = config_form(batched.SerializeToString())["dynamic_batching"]["priority_queue_policy"].values()
    assert policy["default_timeout_microseconds"] == 2**50
    assert form["version_policy"] == {"specific": {"versions": [1, 3]}}
    assert form["ensemble_scheduling"]["step"][0]["model_version"] == -1


def test_text_that_looks_like_a_number_stays_text() -> None:
    form = config_form(config().SerializeToString())
    (step,) = form["ensemble_scheduling"]["step"]
    assert (form["name"], form["backend"], form["input"][0]["name"]) == ("7", "5", "1")
    assert (step["model_name"], step["input_map"]) == ("123", {"4": "5"})
    assert form["parameters"] == {"9": {"string_value": "10"}}


def test_a_configuration_names_its_empty_fields_and_enumerations_as_triton_does() -> None:
    form = config_form(config().SerializeToString())
    assert (form["platform"], form["output"], form["max_batch_size"]) == ("", [], 8)
    assert (form["input"][0]["data_type"], form["input"][0]["format"]) == ("TYPE_FP32", "FORMAT_NONE")


def test_statistics_are_numbers() -> None:
    statistics = Statistics()
    statistics.executed(Execution(3, [10], 20, 30, 40, 50), 1_700_000_000_000)
    form = statistics_form(Version("7", "3", CONFIG, Idle()), statistics)
    assert (form["name"], form["version"], form["inference_count"]) == ("7", "3", 3)
    assert form["last_inference"] == 1_700_000_000_000
    assert form["inference_stats"]["success"] == {"count": 1, "ns": 40}
    assert form["batch_stats"][0]["batch_size"] == 3


def test_the_index_leaves_out_what_is_not_known() -> None:
    assert entry_form(IndexEntry("m")) == {"name": "m"}
    assert entry_form(IndexEntry("m", "1", "READY")) == {"name": "m", "version": "1", "state": "READY"}
