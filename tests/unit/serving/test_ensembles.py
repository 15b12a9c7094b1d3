"""Ensembles: what their configuration must say, and what the models of their steps must be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.serving.domain.config import ModelConfig
from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.completion import begin, complete
from services.serving.outbound.ensembles import with_members
from tests.unit.serving.test_completion import OUT, files, message

ENSEMBLE = """
    platform: "ensemble" max_batch_size: 8
    input { name: "IMAGE" data_type: TYPE_UINT8 dims: 3 }
    output { name: "SCORES" data_type: TYPE_FP32 dims: 10 }
    ensemble_scheduling {
        step {
            model_name: "before" model_version: -1
            input_map { key: "raw" value: "IMAGE" } output_map { key: "ready" value: "scaled" }
        }
        step {
            model_name: "m" model_version: 2
            input_map { key: "INPUT" value: "scaled" } output_map { key: "OUTPUT" value: "SCORES" }
        }
    }
"""


def ensemble(text: str = ENSEMBLE) -> ModelConfig:
    return complete(begin(files(text, name="e", contents=())))


def member(name: str, source: TensorSpec, target: TensorSpec, batch: int = 8) -> ModelConfig:
    partial = begin(files(f"max_batch_size: {batch}", name=name))
    return complete(partial, [source], [target])


def test_an_ensemble_needs_no_graph() -> None:
    config = ensemble()
    assert config.backend == "ensemble"
    assert [(step.model, step.version) for step in config.ensemble] == [("before", ""), ("m", "2")]
    assert config.ensemble[0].inputs == {"raw": "IMAGE"}
    assert not message(config).instance_group
    assert not message(config).HasField("optimization")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('model_name: "before"', ""), "must specify 'model_name' in step 0 of ensemble 'e'"),
        (('value: "SCORES"', 'value: "scaled"'), "ensemble tensor 'scaled' can appear in an output map only once"),
        (('value: "IMAGE"', 'value: "nothing"'), "ensemble input 'IMAGE' for ensemble e is not used"),
        (('name: "SCORES"', 'name: "LABELS"'), "ensemble output 'LABELS' for ensemble e is not used"),
        (
            ('key: "INPUT" value: "scaled"', 'key: "INPUT" value: "gone"'),
            "'SCORES' for ensemble 'e' is not written: at least one of its depending tensors, 'gone', is not",
        ),
        (
            ('key: "INPUT" value: "scaled"', 'key: "INPUT" value: "IMAGE"'),
            "ensemble tensor 'scaled' is unused in ensemble 'e'",
        ),
        (("max_batch_size: 8", "instance_group {}"), "instance group should not be specified for ensemble 'e'"),
        (("max_batch_size: 8", "optimization {}"), "optimization should not be specified for ensemble 'e'"),
        (("max_batch_size: 8", "model_warmup {}"), "model_warmup can not be specified for ensemble 'e'"),
        (
            ('platform: "ensemble"', 'backend: "onnxruntime"'),
            "ensemble scheduling cannot be set for model 'e' whose platform is not ensemble",
        ),
        (
            ('platform: "ensemble"', 'platform: "ensemble" backend: "onnxruntime"'),
            "must have platform type 'ensemble' and empty backend type",
        ),
    ],
)
def test_steps_that_do_not_fit_together_are_refused_in_tritons_words(change: tuple[str, str], sentence: str) -> None:
    with pytest.raises(BadPackage, match=sentence):
        ensemble(ENSEMBLE.replace(*change))


def test_tensors_that_need_each_other_are_never_written() -> None:
    ring = ENSEMBLE.replace(
        'key: "raw" value: "IMAGE"', 'key: "raw" value: "IMAGE" } input_map { key: "x" value: "SCORES"'
    )
    with pytest.raises(BadPackage, match="output 'SCORES' for ensemble 'e' is not written"):
        ensemble(ring)


BEFORE = member("before", TensorSpec("raw", "UINT8", (-1, 3)), TensorSpec("ready", "FP32", (-1, 3)))
AFTER = member("m", TensorSpec("INPUT", "FP32", (-1, 3)), TensorSpec("OUTPUT", "FP32", (-1, 10)))


def test_an_ensemble_of_loaded_models_that_fit_is_accepted() -> None:
    config = with_members(ensemble(), {"before": BEFORE, "m": AFTER})
    assert not config.decoupled
    assert message(config).HasField("model_transaction_policy")


def test_an_ensemble_is_decoupled_when_one_of_its_models_is() -> None:
    config = with_members(ensemble(), {"before": BEFORE, "m": replace(AFTER, decoupled=True)})
    assert config.decoupled
    assert message(config).model_transaction_policy.decoupled


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"before": BEFORE}, "ensemble 'e' depends on 'm' which has no loaded version"),
        ({"before": BEFORE, "m": member("m", TensorSpec("INPUT", "FP16", (-1, 3)), OUT[0])}, "tensor 'scaled' is FP32"),
        ({"before": BEFORE, "m": member("m", TensorSpec("X", "FP32", (-1, 3)), OUT[0])}, "it has no input 'INPUT'"),
        (
            {"before": BEFORE, "m": member("m", TensorSpec("INPUT", "FP32", (-1, 3)), OUT[0], batch=4)},
            "allows maximum batch size 8",
        ),
    ],
)
def test_models_of_steps_that_do_not_fit_are_named(members: dict[str, ModelConfig], sentence: str) -> None:
    with pytest.raises(BadPackage, match=sentence):
        with_members(ensemble(), members)
