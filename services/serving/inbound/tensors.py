"""A ModelInferRequest as a call: raw and typed contents brought to one form."""

from __future__ import annotations

from typing import Final

from inference import grpc_service_pb2 as pb

from services.serving.domain.tensors import TensorData
from services.serving.errors import BadRequest
from services.serving.handlers.inference import InferCall

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
SHARED: Final = "shared_memory_region"


def call_of(request: pb.ModelInferRequest) -> InferCall:
    """Raises `BadRequest` where contents are missing, doubled, or in shared memory."""
    raws = list(request.raw_input_contents)  # each access copies, so once
    if raws and len(raws) != len(request.inputs):
        raise BadRequest(
            f"expected {len(request.inputs)} raw input contents but got {len(raws)}",
            field="raw_input_contents",
        )
    for output in request.outputs:
        _no_shared_memory(output.name, output.parameters)
        if "classification" in output.parameters:
            raise BadRequest(
                f"output {output.name[:128]!r}: the classification extension is not offered", field="outputs"
            )
    return InferCall(
        model=request.model_name,
        version=request.model_version,
        inputs=[_tensor(tensor, raws[place] if raws else None) for place, tensor in enumerate(request.inputs)],
        outputs=[output.name for output in request.outputs],
        parameters=list(request.parameters),
    )


def _tensor(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> TensorData:
    _no_shared_memory(tensor.name, tensor.parameters)
    shape = tuple(tensor.shape)
    if raw is None:
        field = CONTENTS.get(tensor.datatype)
        values = getattr(tensor.contents, field) if field else ()
        return TensorData(tensor.name, tensor.datatype, shape, values=values)
    if tensor.HasField("contents"):
        raise BadRequest(
            f"input {tensor.name[:128]!r} has contents beside raw_input_contents; one of them is allowed",
            field="inputs",
        )
    return TensorData(tensor.name, tensor.datatype, shape, raw=raw)


def _no_shared_memory(name: str, parameters: object) -> None:
    if SHARED in parameters:  # type: ignore[operator]  # a protobuf map
        raise BadRequest(f"{name[:128]!r} stands in shared memory, which is not offered", field="parameters")
