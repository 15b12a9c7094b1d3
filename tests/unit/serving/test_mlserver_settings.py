"""MLServer's model-settings.json becomes the same words as Triton's configuration, or says why it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.serving.domain.config import ModelConfig
from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.completion import begin, complete
from services.serving.outbound.folder import ModelFiles
from services.serving.outbound.mlserver import identity, numbered, read_settings, server_notes

WHOLE: dict[str, Any] = {
    "name": "m",
    "implementation": "models.OnnxModel",
    "parameters": {"uri": "./net.onnx", "version": "v2"},
    "max_batch_size": 16,
    "max_batch_time": 0.05,
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
}
IN = (TensorSpec("image", "FP32", (-1, 3, 8, 8)),)
OUT = (TensorSpec("scores", "FP32", (-1, 10)),)


def files(document: Any, contents: tuple[str, ...] = ("model.onnx",)) -> ModelFiles:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return ModelFiles("m", None, data, {1: "a"}, "f", contents)


def served(document: Any, contents: tuple[str, ...] = ("model.onnx",)) -> ModelConfig:
    return complete(begin(files(document, contents)), IN, OUT)


def test_settings_are_read_into_the_words_of_serving() -> None:
    config = served(WHOLE)
    assert (config.backend, config.filename, config.max_batch_size) == ("onnxruntime", "net.onnx", 16)
    assert [(tensor.name, tensor.datatype, tensor.dims) for tensor in config.inputs] == [("image", "FP32", (3, 8, 8))]
    assert config.outputs[0].dims == (10,)
    assert config.dynamic_batching is not None
    assert any(warning.startswith("max_batch_time: batching is greedy") for warning in config.warnings)
    assert any(warning.startswith("implementation: the class is not run") for warning in config.warnings)


def test_without_batching_the_shapes_are_as_they_stand() -> None:
    config = served({**WHOLE, "max_batch_size": 0})
    assert (config.max_batch_size, config.inputs[0].dims, config.dynamic_batching) == (0, (-1, 3, 8, 8), None)


def test_tensors_that_are_not_named_are_completed_from_the_graph() -> None:
    config = served({"name": "m"})
    assert (config.max_batch_size, config.inputs[0].dims) == (4, (3, 8, 8))


@pytest.mark.parametrize(
    ("parameters", "contents", "filename"),
    [
        ({}, ("model.onnx", "other.onnx"), "model.onnx"),
        ({}, ("net.onnx", "labels.txt"), "net.onnx"),
        ({"uri": "sub/net.onnx"}, (), "sub/net.onnx"),
        ({"uri": "."}, ("model.onnx",), "model.onnx"),
    ],
)
def test_the_graph_is_the_one_that_is_named_or_the_only_one(
    parameters: dict[str, str], contents: tuple[str, ...], filename: str
) -> None:
    partial = begin(files({"parameters": parameters}, contents))
    partial.require()
    assert partial.filename == filename


@pytest.mark.parametrize(
    ("document", "contents", "sentence"),
    [
        ({"implementation": "mlserver_sklearn.SKLearnModel"}, ("model.joblib",), "export it with skl2onnx"),
        ({"implementation": "mlserver_xgboost.XGBoostModel"}, (), "export it with onnxmltools"),
        ({"implementation": "mlserver_huggingface.HuggingFaceRuntime"}, (), "optimum-cli export onnx"),
        ({"implementation": "models.Sum"}, (), r"holds no ONNX file; a Python class \(models.Sum\) is not run"),
        ({}, ("a.onnx", "b.onnx"), "holds 2 ONNX files: name one in parameters.uri"),
    ],
)
def test_a_model_without_a_graph_says_what_to_do(document: Any, contents: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(BadPackage, match=sentence):
        begin(files(document, contents)).require()


def test_a_path_of_the_settings_cannot_be_absolute_or_lead_out() -> None:
    for uri in ("/models/net.onnx", "../net.onnx", "s3://bucket/net.onnx"):
        with pytest.raises(BadPackage, match=r"parameters.uri .* must lie in the folder of its model-settings.json"):
            begin(files({"parameters": {"uri": uri}})).require()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (b"{", "model-settings.json"),
        (b"[]", "model-settings.json"),
        (b"[" * 100_000, "model-settings.json"),
        (b"\xff", "model-settings.json"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": [1]}, "inputs[0]"),
        ({"inputs": [{"datatype": "FP32", "shape": [1]}]}, "inputs[0].name"),
        ({"inputs": [{"name": "x", "datatype": "FP31", "shape": [1]}]}, "inputs[0].datatype"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [True]}]}, "inputs[0].shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": []}]}, "inputs[0].shape"),
        ({"max_batch_size": "8"}, "max_batch_size"),
        ({"max_batch_size": -1}, "max_batch_size"),
        ({"parameters": 3}, "parameters"),
        ({"parameters": {"uri": 3}}, "uri"),
        ({"implementation": ["x"]}, "implementation"),
    ],
)
def test_settings_that_cannot_be_read_name_the_field(document: Any, field: str) -> None:
    with pytest.raises(BadPackage) as caught:
        begin(files(document))
    assert caught.value.field == field


def test_fields_without_effect_are_named() -> None:
    document = {
        "nonsense": 1,
        "cache_enabled": True,
        "parameters": {"content_type": "pd", "environment_tarball": "env.tar.gz", "extra": {}, "odd": 1},
        "inputs": [{**WHOLE["inputs"][0], "parameters": {"content_type": "np"}}],
    }
    warnings = read_settings(json.dumps(document).encode(), "m", ("model.onnx",)).warnings
    for word in ("nonsense:", "cache_enabled:", "parameters.environment_tarball:", "parameters.odd:", "content_type:"):
        assert sum(warning.startswith(word) for warning in warnings) == 1
    assert read_settings(b"{}", "m", ("model.onnx",)).warnings == ()


def test_versions_keep_their_number_and_others_get_the_free_ones_in_order() -> None:
    found = [
        (identity(json.dumps({"name": "m", "parameters": {"version": version}}).encode(), place), place)
        for version, place in [("v3", "a"), ("1", "b"), ("2024-beta", "c"), ("", "d"), ("3", "e")]
    ]
    assert numbered(found) == {"m": {3: "a", 1: "b", 4: "d", 5: "c", 6: "e"}}
    notes = [one.notes for one, place in found]
    assert [bool(said) for said in notes] == [False, False, True, False, False]


def test_settings_without_a_name_are_named_after_their_folder() -> None:
    assert identity(b"{}", "zoo/cats").name == "cats"
    assert identity(b"{", "zoo/cats").name == "cats"
    assert identity(b"{}", "").name == "model"


def test_the_servers_own_settings_say_which_option_they_become() -> None:
    notes = server_notes(b'{"http_port": 8080, "parallel_workers": 4, "odd": 1}')
    assert notes[0] == "http_port: give it as --http-port"
    assert notes[1].startswith("parallel_workers: not needed")
    assert notes[2] == "odd: has no effect here"
    with pytest.raises(BadPackage, match=r"settings.json is not JSON"):
        server_notes(b"{")
