"""What a request of the conformance table is: steps against a server over gRPC or HTTP, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from inference import grpc_service_pb2 as pb

from tests.conformance.tensors import Input

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Grpc:
    """A call of `inference.GRPCInferenceService`; several messages only to ModelStreamInfer."""

    method: str
    messages: tuple[bytes, ...]
    compression: str = ""
    """gzip, deflate, or none."""


@dataclass(frozen=True, slots=True)
class Http:
    """A request; `Content-Length` is added."""

    verb: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """Make a region of system shared memory that holds `content`, or read it back."""

    key: str
    content: bytes = b""
    read: tuple[int, int] | None = None
    """From, to: what is read becomes the step's record."""


Step = Grpc | Http | Region


@dataclass(frozen=True, slots=True)
class Case:
    """Steps in order on one server that others use too, so that they leave it as they found it."""

    name: str
    steps: tuple[Step, ...]


def case(name: str, *steps: Step) -> Case:
    """With its steps as arguments."""
    return Case(name, steps)


def grpc_call(message: Message, compression: str = "") -> Grpc:
    """The call that takes this message: its method is the message's name without `Request`."""
    name = message.DESCRIPTOR.name.removesuffix("Request")
    return Grpc(name, (message.SerializeToString(deterministic=True),), compression)


def stream(*requests: pb.ModelInferRequest) -> Grpc:
    """ModelStreamInfer with these."""
    return Grpc("ModelStreamInfer", tuple(request.SerializeToString(deterministic=True) for request in requests))


def infer_request(
    model: str,
    inputs: Sequence[Input] = (),
    *,
    version: str = "",
    id: str = "",
    typed: bool = False,
    outputs: Iterable[str | tuple[str, Mapping[str, Parameter]]] = (),
    parameters: Mapping[str, Parameter] | None = None,
) -> pb.ModelInferRequest:
    """A well-formed request; tests of malformed ones change what it returns."""
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    for one in inputs:
        tensor = request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if typed:
            tensor.contents.CopyFrom(one.contents())
        else:
            request.raw_input_contents.append(one.raw())
    for output in outputs:
        name, given = (output, {}) if isinstance(output, str) else output
        set_parameters(request.outputs.add(name=name).parameters, given)
    set_parameters(request.parameters, parameters or {})
    return request


def set_parameters(target: Any, given: Mapping[str, Parameter]) -> None:
    """Into a protobuf map of InferParameter."""
    for name, value in given.items():
        target[name].CopyFrom(_parameter(value))


def _parameter(value: Parameter) -> pb.InferParameter:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=value)


def get(path: str, **headers: str) -> Http:
    """A GET."""
    return Http("GET", path, None, tuple(headers.items()))


def post(path: str, body: object = b"", headers: Mapping[str, str] | None = None) -> Http:
    """A POST of bytes as they are, or of anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Http("POST", path, content, tuple((headers or {}).items()))


def infer_path(model: str, version: str = "") -> str:
    """Of HTTP."""
    return f"/v2/models/{model}/versions/{version}/infer" if version else f"/v2/models/{model}/infer"


def json_input(one: Input) -> dict[str, Any]:
    """An element of `inputs` with its data in JSON."""
    return {"name": one.name, "datatype": one.datatype, "shape": list(one.shape), "data": one.json()}


def binary_input(one: Input, size: object = None) -> dict[str, Any]:
    """An element of `inputs` whose data follow the JSON."""
    size = len(one.raw()) if size is None else size
    parameters = {"binary_data_size": size}
    return {"name": one.name, "datatype": one.datatype, "shape": list(one.shape), "parameters": parameters}


def post_binary(
    model: str, document: Mapping[str, Any], blob: bytes, *, header: str | None = None, shift: int = 0
) -> Http:
    """JSON with tensors behind it; `header` or `shift` make Inference-Header-Content-Length wrong."""
    content = json.dumps(document).encode()
    said = str(len(content) + shift) if header is None else header
    return post(infer_path(model), content + blob, {"Inference-Header-Content-Length": said})


def on_every_road(
    name: str,
    model: str,
    inputs: Sequence[Input],
    *,
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Parameter] | None = None,
) -> list[Case]:
    """The same good request in every encoding: raw and typed gRPC, JSON and binary HTTP, and a stream."""
    common = {"outputs": outputs, "parameters": parameters}
    raw = infer_request(model, inputs, **common)  # type: ignore[arg-type]
    document: dict[str, Any] = {"outputs": [{"name": output} for output in outputs]} if outputs else {}
    document |= {"parameters": dict(parameters)} if parameters else {}
    binary = document | {"inputs": [binary_input(one) for one in inputs]}
    binary["parameters"] = {**document.get("parameters", {}), "binary_data_output": True}
    blob = b"".join(one.raw() for one in inputs)
    found = [
        case(f"grpc/{name}/raw", grpc_call(raw)),
        case(f"stream/{name}/raw", stream(raw)),
        case(f"http/{name}/binary", post_binary(model, binary, blob)),
    ]
    if not any(one.datatype in ("FP16", "BF16") for one in inputs):
        typed = infer_request(model, inputs, typed=True, **common)  # type: ignore[arg-type]
        found.append(case(f"grpc/{name}/typed", grpc_call(typed)))
        in_json = document | {"inputs": [json_input(one) for one in inputs]}
        found.append(case(f"http/{name}/json", post(infer_path(model), in_json)))
    return found
