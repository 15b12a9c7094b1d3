"""Models of Triton's Python backend, run unchanged: requests side by side, senders, calls, and what is not offered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from inference.model_config_pb2 import ModelConfig as ConfigMessage

from services.common.errors import Transient
from services.serving.domain.config import TensorConfig
from services.serving.domain.ports import Backend
from services.serving.domain.work import PLAIN, Asked, SequenceMark
from services.serving.errors import BadPackage, InferenceFailed
from services.serving.outbound.backends.programs import Program
from services.serving.outbound.calling import Calls
from tests.unit.serving.programs import NOBODY, World, python, run, write, y
from tests.unit.serving.runners import feed


@pytest.fixture
def world() -> Iterator[World]:
    """Running."""
    found = World()
    yield found
    found.pool.stop()


TRITON = """
    import json
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            %s
            return pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
"""


def triton(folder: Path, line: str, calls: Calls = NOBODY, **fields: Any) -> Backend:
    return python(folder, TRITON % line, calls, **fields)


def test_a_triton_model_is_initialized_with_tritons_arguments_and_finalized(tmp_path: Path) -> None:
    code = """
        import json
        from pathlib import Path
        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            def initialize(self, args):
                args["model_config"] = json.loads(args["model_config"])
                args["dir"] = pb_utils.get_model_dir()
                Path(pb_utils.get_model_dir(), args["model_instance_name"]).write_text(json.dumps(args))
            def execute(self, requests):
                return []
            def finalize(self):
                Path(pb_utils.get_model_dir(), "finalized").touch()
    """
    backend = python(tmp_path, code, instances=2)
    found = json.loads((tmp_path / "m" / "1" / "m_1").read_text())
    config = found.pop("model_config")
    assert found == {
        "dir": str(tmp_path / "m" / "1"),
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
        "model_instance_name": "m_1",
        "model_name": "m",
        "model_repository": str(tmp_path / "m"),
        "model_version": "1",
    }
    assert (config["max_batch_size"], config["input"], config["parameters"]) == (8, [], {"K": {"string_value": "V"}})
    backend.close()
    assert (tmp_path / "m" / "1" / "finalized").exists()


def test_a_triton_model_is_given_waiting_requests_side_by_side_and_one_may_fail(tmp_path: Path) -> None:
    line = "if x[0, 0] == 3: return pb_utils.InferenceResponse(error=pb_utils.TritonError('no 3'))"
    backend: Any = triton(tmp_path, line)
    found = backend.run_group([(feed(value), PLAIN) for value in (1, 3, 5)])
    assert [str(one) if isinstance(one, Exception) else float(one["y"][0, 0]) for one in found] == [1.0, "no 3", 5.0]


def test_a_triton_model_sees_sequence_flags_parameters_and_outputs(tmp_path: Path) -> None:
    line = (
        "assert (request.correlation_id(), request.flags(), json.loads(request.parameters()), "
        "request.requested_output_names(), request.timeout()) == ('s', 1, {'k': 2}, ['y'], 9), request.parameters()"
    )
    asked = Asked(timeout_us=9, sequence=SequenceMark("s", start=True), parameters={"k": 2})
    assert y(triton(tmp_path, line), 1, asked=asked) == [1]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "raise pb_utils.TritonModelException('bad luck')",
            r"TritonModelException: bad luck \(model.py, line 1[0-9]\)",
        ),
        ("return None", "ended a request without a response|let go of its sender"),
        ("pb_utils.MetricFamily", "triton_python_backend_utils.MetricFamily is not offered by Irisloop"),
        ("pb_utils.nonsense", "has no attribute 'nonsense'"),
        ("request.set_release_flags(2)", "rescheduling is not offered"),
        ("x = x.astype('float64')", r"gave output 'y' as float64; FP32 \(float32\) is declared"),
        ("pb_utils.Tensor('', x)", "Tensor name cannot be an empty string"),
    ],
)
def test_mistakes_of_a_triton_model_are_sentences(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(InferenceFailed, match=sentence):
        y(triton(tmp_path, line), 1)


def test_a_triton_error_that_says_unavailable_may_be_tried_again(tmp_path: Path) -> None:
    line = "return pb_utils.InferenceResponse(error=pb_utils.TritonError('later', pb_utils.TritonError.UNAVAILABLE))"
    with pytest.raises(Transient, match="later"):
        y(triton(tmp_path, line), 1)


def test_a_triton_model_may_answer_by_its_sender_after_it_returned(tmp_path: Path) -> None:
    code = """
        import threading
        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            def execute(self, requests):
                for request in requests:
                    threading.Thread(target=self.later, args=(request,)).start()
                return [None] * len(requests)
            def later(self, request):
                sender = request.get_response_sender()
                x = request.inputs()[0].as_numpy()
                tensors = [pb_utils.Tensor("y", x * 7)]
                sender.send(pb_utils.InferenceResponse(tensors), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    """
    assert y(python(tmp_path, code), 2) == [14]


def test_a_decoupled_triton_model_that_lets_go_of_its_sender_ends_with_an_error(tmp_path: Path) -> None:
    code = """
        class TritonPythonModel:
            def execute(self, requests):
                return None
    """
    with pytest.raises(InferenceFailed, match="let go of its sender without a final response"):
        run(python(tmp_path, code, decoupled=True), feed(1))


def test_the_last_answer_of_a_decoupled_triton_model_may_carry_the_end(tmp_path: Path) -> None:
    code = """
        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            def execute(self, requests):
                for request in requests:
                    x = request.inputs()[0].as_numpy()
                    for flags in (0, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL):
                        response = pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
                        request.get_response_sender().send(response, flags)
    """
    backend = python(tmp_path, code, decoupled=True)
    assert [last for _, last in backend.run(feed(1), PLAIN)] == [False, True]


def test_a_triton_model_may_be_a_coroutine_that_calls_others(tmp_path: Path, world: World) -> None:
    code = """
        import asyncio
        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            async def execute(self, requests):
                return [await self.answer(request) for request in requests]

            async def answer(self, request):
                calls = [
                    pb_utils.InferenceRequest(
                        model_name=name, requested_output_names=["y"], inputs=request.inputs()
                    )
                    for name in ("doubling", "nobody")
                ]
                good, bad = await asyncio.gather(*(call.async_exec() for call in calls))
                assert bad.has_error() and "unknown model" in bad.error().message(), bad.error()
                assert bad.error().code() == pb_utils.TritonError.NOT_FOUND
                found = pb_utils.get_output_tensor_by_name(good, "y").as_numpy()
                many = pb_utils.InferenceRequest(model_name="many", inputs=request.inputs()).exec(decoupled=True)
                total = sum(one.output_tensors()[0].as_numpy() for one in many)
                assert pb_utils.is_model_ready("many") and not pb_utils.is_model_ready("nobody")
                return pb_utils.InferenceResponse([pb_utils.Tensor("y", found + total)])
    """
    assert y(python(tmp_path, code, world.calls()), 1) == [2 + 1 + 2 + 3]


def test_tritons_helpers_know_types_and_text(tmp_path: Path) -> None:
    line = """
            import numpy as np
            text = np.array([b"a", b""], dtype=np.object_)
            assert pb_utils.deserialize_bytes_tensor(pb_utils.serialize_byte_tensor(text)).tolist() == [b"a", b""]
            assert pb_utils.triton_string_to_numpy("TYPE_STRING") is np.object_
            assert pb_utils.numpy_to_triton_type(np.float32) == 11
            assert pb_utils.triton_to_numpy_type(11) is np.float32
            assert request.inputs()[0].triton_dtype() == "TYPE_FP32"
            assert np.from_dlpack(pb_utils.Tensor.from_dlpack("t", x)).tolist() == x.tolist()
            pb_utils.Logger.log_info("seen"); pb_utils.Logger.log("seen", pb_utils.Logger.WARNING)"""
    assert y(triton(tmp_path, line.strip()), 1) == [1]


def test_bf16_is_passed_on_and_not_read_as_numbers_that_it_is_not(tmp_path: Path) -> None:
    bits = {"x": np.array([[1, 2]], np.uint16)}
    tensors = (TensorConfig("x", "BF16", (2,)),), (TensorConfig("y", "BF16", (2,)),)
    code = TRITON.replace(".as_numpy()\n", "\n").replace(
        'pb_utils.Tensor("y", x)', 'pb_utils.Tensor.from_dlpack("y", x)'
    )
    backend = python(tmp_path, code % "", inputs=tensors[0], outputs=tensors[1])
    assert run(backend, bits)[0]["y"].tolist() == [[1, 2]]
    with pytest.raises(InferenceFailed, match="'x' is BF16, which numpy has not"):
        run(triton(tmp_path, "", inputs=tensors[0], outputs=tensors[1]), bits)


def test_a_cancelled_decoupled_request_is_seen_by_the_model(tmp_path: Path) -> None:
    code = """
        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            def execute(self, requests):
                (request,) = requests
                sender = request.get_response_sender()
                while not request.is_cancelled():
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("y", request.inputs()[0].as_numpy())]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    """
    backend: Any = python(tmp_path, code, decoupled=True)
    before = threading.active_count()
    answers = backend.run(feed(1), PLAIN)
    next(answers)
    answers.close()
    assert threading.active_count() == before


AUTO = """
    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            %s
            return config
        def execute(self, requests):
            return []
"""


def completed(folder: Path, line: str, **message: Any) -> ConfigMessage:
    given = ParseDict({"name": "m", **message}, ConfigMessage())
    return Program("m", write(folder, AUTO % line), 1, NOBODY).completed(given)


def test_a_triton_model_completes_its_configuration(tmp_path: Path) -> None:
    line = (
        "config.add_input({'name': 'x', 'data_type': 'TYPE_FP32', 'dims': [-1, 2], 'optional': True}); "
        "config.add_output({'name': 'y', 'data_type': 'TYPE_STRING', 'dims': [2]}); config.set_max_batch_size(4); "
        "config.set_dynamic_batching(); config.set_model_transaction_policy({'decoupled': True})"
    )
    found = completed(tmp_path, line, input=[{"name": "x"}])
    assert [(one.name, one.data_type, list(one.dims), one.optional) for one in found.input] == [
        ("x", 11, [-1, 2], True)
    ]
    assert (found.output[0].data_type, found.max_batch_size) == (13, 4)
    assert found.HasField("dynamic_batching")
    assert found.model_transaction_policy.decoupled


@pytest.mark.parametrize(
    ("line", "message", "sentence"),
    [
        ("config.add_input({'name': 'x', 'dims': [1]})", {}, "input 'x' of model 'm' lacks 'data_type'"),
        ("config.set_max_batch_size(2)", {"max_batch_size": 4}, "max_batch_size of model 'm' is 4"),
        ("config.set_dynamic_batching()", {"sequence_batching": {}}, "configured with sequence_batching"),
        (
            "config.add_output({'name': 'y', 'data_type': 'TYPE_FP32', 'dims': [2]})",
            {"output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [3]}]},
            "output 'y' of model 'm' is TYPE_FP32",
        ),
    ],
)
def test_a_triton_model_cannot_contradict_its_configuration(
    tmp_path: Path, line: str, message: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadPackage, match=sentence):
        completed(tmp_path, line, **message)
