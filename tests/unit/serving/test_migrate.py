"""`irisloop migrate`: a line a model, from the code that serves, with reasons; exit code 1 when one is not served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.local.cli.app import run
from services.serving.errors import BadPackage
from services.serving.migrate import Finding, examine
from tests.unit.serving import tiny


def overridable() -> bytes:
    """OUTPUT = INPUT + BIAS, where BIAS has a value that may be replaced."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["INPUT", "BIAS"], ["OUTPUT"])],
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("INPUT", "BIAS")],
        [helper.make_tensor_value_info("OUTPUT", TensorProto.FLOAT, [None, 4])],
        [numpy_helper.from_array(np.zeros((1, 4), dtype=np.float32), "BIAS")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def put(root: Path, files: dict[str, str | bytes]) -> str:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(root)


BIASED = """
    max_batch_size: 8
    input { name: "INPUT" data_type: TYPE_FP32 dims: 4 }
    input { name: "BIAS" data_type: TYPE_FP32 dims: 4 optional: true }
    output { name: "OUTPUT" data_type: TYPE_FP32 dims: 4 }
"""
TENSORS = 'input { name: "x" data_type: TYPE_FP32 dims: 1 } output { name: "y" data_type: TYPE_FP32 dims: 1 }'
CHAIN = """
    platform: "ensemble" max_batch_size: 4
    input { name: "a" data_type: TYPE_UINT8 dims: [ 1, 4, 4 ] }
    output { name: "b" data_type: TYPE_FP32 dims: 3 }
    ensemble_scheduling { step { model_name: "STEP" model_version: -1
      input_map { key: "image" value: "a" } output_map { key: "logits" value: "b" } } }
"""


@pytest.fixture
def repository(tmp_path: Path) -> str:
    (tmp_path / "chain" / "1").mkdir(parents=True)
    (tmp_path / "loose" / "1").mkdir(parents=True)
    (tmp_path / "far" / "1").mkdir(parents=True)
    return put(
        tmp_path,
        {
            "alone/1/model.onnx": tiny.graph(),
            "whole/config.pbtxt": "max_batch_size: 4",
            "whole/1/model.onnx": tiny.graph(),
            "whole/4/model.onnx": tiny.graph(1),
            "biased/config.pbtxt": BIASED,
            "biased/1/model.onnx": overridable(),
            "chain/config.pbtxt": CHAIN.replace("STEP", "whole"),
            "loose/config.pbtxt": CHAIN.replace("STEP", "nobody"),
            "broken/1/model.onnx": b"not a graph",
            "empty/config.pbtxt": 'backend: "onnxruntime"',
            "typo/config.pbtxt": 'backend: "onnxruntime"\nmax_batchsize: 3',
            "typo/1/model.onnx": tiny.graph(),
            "plan/1/model.plan": b"",
            "script/config.pbtxt": f'backend: "python" {TENSORS}',
            "script/1/model.py": "import triton_python_backend_utils as pb_utils",
            "ours/config.pbtxt": f'backend: "python" {TENSORS}',
            "ours/1/model.py": "def predict(inputs): ...",
            "far/config.pbtxt": 'backend: "remote"',
            "wrong/config.pbtxt": 'output { name: "scores" data_type: TYPE_FP32 dims: 3 }',
            "wrong/1/model.onnx": tiny.graph(),
            "mls/model-settings.json": "{}",
        },
    )


async def test_each_model_has_a_verdict_and_its_reasons(repository: str) -> None:
    report = await examine("triton", repository)
    found = {finding.model: finding for finding in report.findings}
    verdicts = {name: finding.verdict for name, finding in found.items()}
    assert verdicts == {
        **dict.fromkeys(("whole", "biased", "chain", "ours"), "as is"),
        **dict.fromkeys(("alone", "far"), "with changes"),
        **dict.fromkeys(("loose", "broken", "empty", "typo", "plan", "wrong"), "not served"),
        "script": "as is",
    }
    assert not report.served
    assert found["whole"].versions == (4,)
    assert "max_batch_size: 4 was filled in" in found["alone"].reasons[0]
    assert "line 2: 'max_batchsize' is not a field" in found["typo"].reasons[0]
    assert "export the model as ONNX" in found["plan"].reasons[0]
    assert "depends on 'nobody' which has no loaded version" in found["loose"].reasons[0]
    assert "onnxruntime does not load model.onnx" in found["broken"].reasons[0]
    assert "at least one version must be available" in found["empty"].reasons[0]
    assert "allowed outputs are: embedding, logits" in found["wrong"].reasons[0]
    assert "asked of the remote server" in found["far"].reasons[0]


async def test_mlservers_models_are_looked_at_alone_with_the_servers_settings(tmp_path: Path) -> None:
    folder = put(
        tmp_path,
        {
            "settings.json": '{"http_port": 8080}',
            "good/model-settings.json": '{"name": "good"}',
            "good/model.onnx": tiny.graph(),
            "sk/model-settings.json": '{"name": "sk", "implementation": "mlserver_sklearn.SKLearnModel"}',
            "triton/1/model.onnx": tiny.graph(),
        },
    )
    report = await examine("mlserver", folder)
    assert [(finding.model, finding.verdict) for finding in report.findings] == [
        ("good", "with changes"),
        ("sk", "not served"),
    ]
    assert report.notes == ("http_port: give it as --http-port",)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "linked"])
async def test_a_graph_cannot_read_files_outside_of_its_folder(tmp_path: Path, location: str) -> None:
    """Whoever may load a model could read the server's files otherwise: onnxruntime must refuse."""
    weight = TensorProto(name="W", data_type=TensorProto.UINT8, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        weight.external_data.add(key=key, value=value)
    output = helper.make_tensor_value_info("Y", TensorProto.UINT8, [4])
    graph = helper.make_graph([helper.make_node("Identity", ["W"], ["Y"])], "g", [], [output], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = put(tmp_path, {"m/1/model.onnx": model.SerializeToString(), "m/secret": "secret", "m/1/x": ""})
    (tmp_path / "m" / "1" / "linked").symlink_to(tmp_path / "m" / "secret")
    (finding,) = (await examine("triton", folder)).findings
    assert finding.verdict == "not served"
    assert "onnxruntime does not load model.onnx" in finding.reasons[0]


async def test_a_repository_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="is no folder"):
        await examine("triton", str(tmp_path / "missing"))


def test_the_command_prints_a_line_a_model_and_fails_when_one_is_not_served(
    repository: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["migrate", "triton", repository]) == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert "as is" in lines["whole"]
    assert "changes" in lines["alone"]
    assert "not served" in lines["typo"]
    assert "max_batchsize" in lines["typo"]


def test_the_command_succeeds_when_all_are_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(tmp_path, {"m/config.pbtxt": "max_batch_size: 4", "m/1/model.onnx": tiny.graph()})
    assert run(["migrate", "triton", folder, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "served": True,
        "models": [{"model": "m", "verdict": "as is", "backend": "onnxruntime", "versions": [1], "reasons": []}],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["migrate", "bentoml", "."], "'bentoml' is neither triton nor mlserver"),
        (["migrate", "triton", "/no/such/folder"], "/no/such/folder is no folder"),
    ],
)
def test_the_command_says_what_was_asked_wrongly(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_a_folder_without_models_is_said_and_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the wrong folder, most likely."""
    assert run(["migrate", "triton", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "holds no model" in said
    assert "Start them" not in said


def test_a_finding_for_programs_leaves_out_the_configuration() -> None:
    assert set(Finding("m", "as is").as_json()) == {"model", "verdict", "backend", "versions", "reasons"}
