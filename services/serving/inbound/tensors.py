"""A ModelInferRequest as a call, and an answer as a ModelInferResponse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from inference import grpc_service_pb2 as pb

from services.serving.domain.calls import InferAnswer, InferCall, WantedOutput
from services.serving.domain.tensors import Region, TensorData, raw_of
from services.serving.errors import BadRequest
from services.serving.inbound.wire import Request

CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
REGION: Final = "shared_memory_region"
REGION_SIZE: Final = "shared_memory_byte_size"
REGION_OFFSET: Final = "shared_memory_offset"
CLASSIFICATION: Final = "classification"
MOST_CLASSES: Final = 2**31


def call_of(request: Request, key: str = "", traceparent: str = "", taken_ns: int = 0) -> InferCall:
    """`taken_ns`: when it was taken off the wire, where the transport knows it.

    Raises `BadRequest` where contents are missing or doubled, or a parameter is of the wrong type.
    """
    message, raws = request
    taken = iter(raws)
    inputs = [_input(tensor, taken, bool(raws)) for tensor in message.inputs]
    return InferCall(
        model=message.model_name,
        version=message.model_version,
        inputs=inputs,
        outputs=[_wanted(output) for output in message.outputs],
        parameters=values_of(message.parameters) if message.parameters else {},
        id=message.id,
        key=key or message.id,
        traceparent=traceparent,
        taken_ns=taken_ns,
    )


def response_of(answer: InferAnswer) -> tuple[pb.ModelInferResponse, list[bytes | memoryview]]:
    """The message without its raw contents, and these; what was put in shared memory has empty ones."""
    version = answer.version
    response = pb.ModelInferResponse(model_name=version.model, model_version=version.name, id=answer.id)
    raws: list[bytes | memoryview] = []
    for output in answer.outputs:
        response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if output.region is None:
            raws.append(raw_of(output.data))
            continue
        raws.append(b"")
    for name, value in answer.parameters.items():
        set_parameter(response.parameters[name], value)
    return response, raws


def values_of(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """The parameters as plain values."""
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = getattr(parameter, choice) if choice else None
    return found


def set_parameter(parameter: pb.InferParameter, value: Any) -> None:
    """Of the protocol's type for the value's."""
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = str(value)


def region_of(name: str, parameters: Mapping[str, Any]) -> Region | None:
    """The shared-memory region that a tensor's parameters name. Raises `BadRequest`."""
    if REGION not in parameters:
        return None
    region = parameters[REGION]
    size = _number(name, parameters, REGION_SIZE)
    if not isinstance(region, str):
        raise BadRequest(f"{REGION!r} of {name[:128]!r} must be text", field="parameters")
    if not size:
        raise BadRequest(f"{REGION_SIZE!r} of {name[:128]!r} must be a number above 0", field="parameters")
    return Region(region, size, _number(name, parameters, REGION_OFFSET))


def _number(name: str, parameters: Mapping[str, Any], key: str) -> int:
    value = parameters.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise BadRequest(f"{key!r} of {name[:128]!r} must be a whole number of at least 0", field="parameters")
    return value


def _input(tensor: pb.ModelInferRequest.InferInputTensor, raws: Any, any_raw: bool) -> TensorData:
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    if tensor.parameters:
        region = region_of(name, values_of(tensor.parameters))
        if region is not None:
            if tensor.HasField("contents"):
                raise BadRequest(
                    f"unexpected 'content' provided when using shared memory for input tensor {name[:128]!r}",
                    field="inputs",
                )
            return TensorData(name, datatype, shape, region=region)
    if any_raw:
        if tensor.HasField("contents"):
            raise BadRequest(
                f"contents field must not be specified when using raw_input_contents for {name[:128]!r}",
                field="inputs",
            )
        raw = next(raws, None)
        if raw is None:
            raise _no_data(name)
        return TensorData(name, datatype, shape, raw=raw)
    if not tensor.HasField("contents"):
        raise _no_data(name)
    return TensorData(name, datatype, shape, values=_contents(tensor))


def _no_data(name: str) -> BadRequest:
    return BadRequest(f"unable to find data for input tensor {name[:128]!r} in request.", field="inputs")


def _contents(tensor: pb.ModelInferRequest.InferInputTensor) -> Sequence[Any]:
    wanted = CONTENTS.get(tensor.datatype)
    for field, _ in tensor.contents.ListFields():
        if field.name != wanted:
            hint = "; send it in raw_input_contents" if tensor.datatype in ("FP16", "BF16") else ""
            raise BadRequest(
                f"unexpected explicit tensor data for input tensor {tensor.name[:128]!r} of type {field.name}, "
                f"expected datatype {tensor.datatype[:32]!r}{hint}",
                field="inputs",
            )
    return getattr(tensor.contents, wanted) if wanted else ()


def _wanted(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> WantedOutput:
    if not output.parameters:
        return WantedOutput(output.name)
    parameters = values_of(output.parameters)
    classes = parameters.get(CLASSIFICATION)
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int)):
        raise BadRequest(f"invalid value type for {CLASSIFICATION!r} parameter, expected int64_param", field="outputs")
    if classes is not None and not 0 < classes < MOST_CLASSES:
        raise BadRequest(f"invalid value for {CLASSIFICATION!r} parameter, expected >= 0", field="outputs")
    region = region_of(output.name, parameters)
    if classes and region is not None:
        raise BadRequest(
            f"shared memory can't be used for classification results of {output.name[:128]!r}", field="outputs"
        )
    return WantedOutput(output.name, classes or 0, region)
