"""The same small models in every backend, for the contract of `Backend`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
from google.protobuf.json_format import ParseDict
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from inference.model_config_pb2 import ModelConfig as ConfigMessage
from onnx import TensorProto, helper, numpy_helper

from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.ports import Backend
from services.serving.domain.routes import RouteTable
from services.serving.domain.tensors import Array, TensorData, decoded, encoded
from services.serving.outbound.backends.onnx import OnnxBackend, Options
from services.serving.outbound.backends.programs import Program
from services.serving.outbound.backends.remote import Remote
from services.serving.outbound.calling import Calls

REFUSED = 9
"""A value of `add`'s input INDEX that it cannot take."""
TENSORS = {
    "identity": ((("IN", "", (-1,)),), (("OUT", "", (-1,)),)),
    "add": (
        (("A", "FP32", (2,)), ("B", "FP32", (2,)), ("INDEX", "INT64", (1,))),
        (("SUM", "FP32", (2,)), ("DIFFERENCE", "FP32", (2,)), ("PICKED", "FP32", (1,))),
    ),
    "count": ((("IN", "INT32", (1,)),), (("OUT", "INT32", (1,)),)),
}
"""identity of one datatype; sum, difference and a table at INDEX (4 entries); IN answers that count up, decoupled."""
TABLE = (1.0, 2.0, 4.0, 8.0)


def config_of(model: str, datatype: str = "", instances: int = 1, **fields: Any) -> ModelConfig:
    """As the loader completes it."""
    inputs, outputs = (
        tuple(TensorConfig(name, kind or datatype, dims) for name, kind, dims in side) for side in TENSORS[model]
    )
    decoupled = model == "count"
    document = {
        "name": model,
        "max_batch_size": 0 if decoupled else 8,
        "input": [_described(tensor) for tensor in inputs],
        "output": [_described(tensor) for tensor in outputs],
        "parameters": {"K": {"string_value": "V"}},
        **({"model_transaction_policy": {"decoupled": True}} if decoupled else {}),
    }
    message = ParseDict(document, ConfigMessage())
    return ModelConfig(
        model,
        "python",
        message.max_batch_size,
        inputs,
        outputs,
        decoupled=decoupled,
        instances=instances,
        parameters={"K": "V"},
        serialized=message.SerializeToString(),
        **fields,
    )


def _described(tensor: TensorConfig) -> dict[str, Any]:
    datatype = f"TYPE_{'STRING' if tensor.datatype == 'BYTES' else tensor.datatype}"
    return {"name": tensor.name, "data_type": datatype, "dims": list(tensor.dims)}


class House(Protocol):
    """A backend and how its models are made."""

    def opened(self, config: ModelConfig) -> Backend: ...

    def inside(self, backend: Backend) -> weakref.ref[Any]:
        """What must be gone when the backend is closed."""


class OnnxHouse:
    """Graphs."""

    def __init__(self, folder: Path) -> None: ...

    def opened(self, config: ModelConfig) -> Backend:
        graph = add_graph() if config.name == "add" else identity_graph(config.inputs[0].datatype)
        return OnnxBackend(graph, Options())

    def inside(self, backend: Any) -> weakref.ref[Any]:
        return weakref.ref(backend._session)


ONNX = {"BYTES": "STRING", "BF16": "BFLOAT16", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}


def identity_graph(datatype: str) -> bytes:
    """OUT = IN [n, k]."""
    kind = TensorProto.DataType.Value(ONNX.get(datatype, datatype))
    tensors = [helper.make_tensor_value_info(name, kind, ["n", "k"]) for name in ("IN", "OUT")]
    return _model([helper.make_node("Identity", ["IN"], ["OUT"])], tensors[:1], tensors[1:])


def add_graph() -> bytes:
    """SUM = A + B, DIFFERENCE = A - B, PICKED = TABLE[INDEX]."""
    nodes = [
        helper.make_node("Add", ["A", "B"], ["SUM"]),
        helper.make_node("Sub", ["A", "B"], ["DIFFERENCE"]),
        helper.make_node("Gather", ["table", "INDEX"], ["PICKED"]),
    ]
    wide = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("A", "B", "SUM", "DIFFERENCE")
    ]
    index = helper.make_tensor_value_info("INDEX", TensorProto.INT64, ["n", 1])
    picked = helper.make_tensor_value_info("PICKED", TensorProto.FLOAT, ["n", 1])
    table = numpy_helper.from_array(np.array(TABLE, np.float32), "table")
    return _model(nodes, [*wide[:2], index], [*wide[2:], picked], [table])


def _model(nodes: Any, inputs: Any, outputs: Any, constants: Any = ()) -> bytes:
    made = helper.make_graph(nodes, "tiny", inputs, outputs, list(constants))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


OWN = """
import numpy as np

class Model:
    def __init__(self, context):
        self.name = context.model
        self.table = np.array([1, 2, 4, 8], np.float32)

    def __call__(self, inputs):
        return getattr(self, self.name)(inputs)

    def identity(self, inputs):
        return {"OUT": inputs["IN"]}

    def add(self, inputs):
        a, b = inputs["A"], inputs["B"]
        return {"SUM": a + b, "DIFFERENCE": a - b, "PICKED": self.table[inputs["INDEX"]]}

    def count(self, inputs):
        for number in range(int(inputs["IN"][0])):
            if number == 5:
                raise ValueError("five is too many")
            yield {"OUT": np.array([number], np.int32)}

def load(context):
    return Model(context)
"""

TRITON = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        self.table = np.array([1, 2, 4, 8], np.float32)

    def execute(self, requests):
        if pb_utils.using_decoupled_model_transaction_policy(self.config):
            for request in requests:
                self.count(request)
            return None
        return [getattr(self, self.config["name"])(request) for request in requests]

    def identity(self, request):
        (tensor,) = request.inputs()
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUT", tensor)])

    def add(self, request):
        a, b, index = (pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in ("A", "B", "INDEX"))
        try:
            picked = self.table[index]
        except IndexError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        found = {"SUM": a + b, "DIFFERENCE": a - b, "PICKED": picked}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in found.items()])

    def count(self, request):
        sender = request.get_response_sender()
        (count,) = request.inputs()[0].as_numpy()
        for number in range(count):
            if sender.is_cancelled():
                break
            if number == 5:
                raise ValueError("five is too many")
            tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
            sender.send(pb_utils.InferenceResponse([tensor]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


class PythonHouse:
    """Irisloop's own form of model.py."""

    source = OWN

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def opened(self, config: ModelConfig) -> Backend:
        path = self._folder / config.name / "1" / "model.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.source)
        return Program(config.name, path, 1, Calls(RouteTable)).start(config)

    def inside(self, backend: Any) -> weakref.ref[Any]:
        return weakref.ref(backend._objects[0])


class TritonHouse(PythonHouse):
    """Triton's form."""

    source = TRITON


class RemoteHouse:
    """Another server, which computes with numpy; `credentials` for TLS."""

    def __init__(self, folder: Path, credentials: grpc.ServerCredentials | None = None) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8))
        self.service = Service()  # type: ignore[abstract]  # the rest is not called
        pb_grpc.add_GRPCInferenceServiceServicer_to_server(self.service, self._server)
        free = "127.0.0.1:0"
        port = self._server.add_secure_port(free, credentials) if credentials else self._server.add_insecure_port(free)
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def opened(self, config: ModelConfig) -> Backend:
        self.service.configs[config.name] = config
        return Remote.of(config.name, {"address": self.address}).start(config)

    def inside(self, backend: Any) -> weakref.ref[Any]:
        return weakref.ref(backend._clients[0])

    def close(self) -> None:
        self._server.stop(None).wait()


class Service(pb_grpc.GRPCInferenceServiceServicer):
    """As much of a server as a backend needs."""

    def __init__(self) -> None:
        self.configs: dict[str, ModelConfig] = {}
        self.requests: list[pb.ModelInferRequest] = []
        self.typed = False
        """Answer in typed values, as other servers than Triton do."""
        self.hook: Callable[[grpc.ServicerContext], None] = lambda context: None

    def ServerMetadata(self, request: Any, context: Any) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="toy", version="0.1")

    def ModelMetadata(self, request: Any, context: Any) -> pb.ModelMetadataResponse:
        if request.name not in self.configs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        config = self.configs[request.name]
        found = pb.ModelMetadataResponse(name=config.name, versions=["1"], platform="toy")
        for described, tensors in ((found.inputs, config.inputs), (found.outputs, config.outputs)):
            for tensor in tensors:
                lead = (-1,) if config.max_batch_size else ()
                described.add(name=tensor.name, datatype=tensor.datatype, shape=lead + tensor.dims)
        return found

    def ModelConfig(self, request: Any, context: Any) -> pb.ModelConfigResponse:
        return pb.ModelConfigResponse(config=ConfigMessage.FromString(self.configs[request.name].serialized))

    def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        self.requests.append(request)
        self.hook(context)
        inputs = _arrays(request)
        if request.model_name == "identity":
            return self._answer(request, {"OUT": (request.inputs[0].datatype, inputs["IN"])})
        if (inputs["INDEX"] >= len(TABLE)).any():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "index 9 is out of bounds")
        a, b = inputs["A"], inputs["B"]
        picked = np.array(TABLE, np.float32)[inputs["INDEX"]]
        found = {"SUM": a + b, "DIFFERENCE": a - b, "PICKED": picked}
        return self._answer(request, {name: ("FP32", array) for name, array in found.items()})

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[pb.ModelStreamInferResponse]:
        for request in requests:
            self.requests.append(request)
            (count,) = _arrays(request)["IN"]
            for number in range(count):
                if number == 5:
                    yield pb.ModelStreamInferResponse(error_message="five is too many")
                    break
                found = self._answer(request, {"OUT": ("INT32", np.array([number], np.int32))})
                found.parameters["triton_final_response"].bool_param = False
                yield pb.ModelStreamInferResponse(infer_response=found)
            else:
                found = pb.ModelInferResponse(model_name=request.model_name)
                found.parameters["triton_final_response"].bool_param = True
                yield pb.ModelStreamInferResponse(infer_response=found)

    def _answer(self, request: pb.ModelInferRequest, outputs: dict[str, tuple[str, Array]]) -> pb.ModelInferResponse:
        found = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
        for name, (datatype, array) in outputs.items():
            output = found.outputs.add(name=name, datatype=datatype, shape=array.shape)
            if self.typed:
                output.contents.fp32_contents.extend(array.ravel().tolist())
            else:
                found.raw_output_contents.append(encoded(array))
        return found


def _arrays(request: pb.ModelInferRequest) -> dict[str, Array]:
    raws = list(request.raw_input_contents)
    return {
        tensor.name: decoded(TensorData(tensor.name, tensor.datatype, tuple(tensor.shape), raw=raw))
        for tensor, raw in zip(request.inputs, raws, strict=True)
    }


HOUSES: dict[str, Callable[[Path], Any]] = {
    "onnxruntime": OnnxHouse,
    "python": PythonHouse,
    "python, Triton's class": TritonHouse,
    "remote": RemoteHouse,
}
