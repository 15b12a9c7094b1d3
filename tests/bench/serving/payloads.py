"""The calls, as bytes: what a load generator sends again and again, and what one answer to it must be."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from typing import Any, Final

import grpc
import numpy as np
from inference import grpc_service_pb2 as pb

from tests.bench.serving.h2load import Target
from tests.bench.serving.models import DTYPES, INPUT, OUTPUT, Array, BenchModel
from tests.bench.serving.servers import Server

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
STATISTICS: Final = "/inference.GRPCInferenceService/ModelStatistics"
LENGTH: Final = "Inference-Header-Content-Length"
TIMEOUT_S: Final = 20.0
TOLERANCE: Final = 1e-4
LIMITS: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Unoffered(RuntimeError):
    """The server does not do this; the text says what it answered."""


class Wrong(RuntimeError):
    """The server answers, but not with what the model gives: its figures would say nothing."""


def infer_request(model: BenchModel, tensor: Array) -> bytes:
    """A ModelInferRequest with raw contents."""
    request = pb.ModelInferRequest(model_name=model.name)
    request.inputs.add(name=INPUT, datatype=model.datatype, shape=tensor.shape)
    request.raw_input_contents.append(tensor.tobytes())
    return request.SerializeToString()


def grpc_frame(message: bytes) -> bytes:
    """gRPC's prefix before it: not compressed, length."""
    return struct.pack(">?I", False, len(message)) + message


def grpc_target(address: str, model: BenchModel) -> Target:
    """For h2load; `address` is host:port."""
    body = grpc_frame(infer_request(model, model.sample()))
    return Target(f"http://{address}{INFER}", body, (("content-type", "application/grpc"), ("te", "trailers")))


def http_target(server: Server, model: BenchModel) -> Target:
    """The binary extension, in both directions."""
    tensor = model.sample()
    content = tensor.tobytes()
    given: dict[str, Any] = {"name": INPUT, "datatype": model.datatype, "shape": tensor.shape}
    given["parameters"] = {"binary_data_size": len(content)}
    outputs = [{"name": OUTPUT, "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [given], "outputs": outputs}).encode()
    headers = (("content-type", "application/octet-stream"), (LENGTH, str(len(head))))
    return Target(f"http://{server.http}/v2/models/{model.name}/infer", head + content, headers, http1=True)


def check_grpc(server: Server, model: BenchModel, expected: Array) -> int:
    """One call: the bytes of its answer's body. Raises `Unoffered` or `Wrong`."""
    with grpc.insecure_channel(server.grpc, options=LIMITS) as channel:
        call: Any = channel.unary_unary(INFER)
        try:
            answer: bytes = call(infer_request(model, model.sample()), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise Unoffered(f"{error.code().name} {error.details()}") from error
    found = pb.ModelInferResponse.FromString(answer)
    if found.raw_output_contents:
        values = np.frombuffer(found.raw_output_contents[0], DTYPES[model.answer_datatype])
    else:
        values = np.array(found.outputs[0].contents.fp32_contents or found.outputs[0].contents.uint_contents)
    _compare(model, values, expected)
    return len(grpc_frame(answer))


def check_http(server: Server, model: BenchModel, expected: Array) -> int:
    """The same over HTTP."""
    target = http_target(server, model)
    request = urllib.request.Request(target.url, target.body, dict(target.headers))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            body, head = answer.read(), answer.headers.get(LENGTH)
    except urllib.error.HTTPError as error:
        raise Unoffered(f"{error.code} {error.read(200).decode(errors='replace')}") from error
    if head is None:
        raise Unoffered("the answer is not in the binary form")
    _compare(model, np.frombuffer(body[int(head) :], DTYPES[model.answer_datatype]), expected)
    return len(body)


def _compare(model: BenchModel, values: Array, expected: Array) -> None:
    flat = expected.reshape(-1)
    if values.shape != flat.shape or not np.allclose(values, flat, atol=TOLERANCE, rtol=TOLERANCE):
        raise Wrong(f"{model.name} answers {values[:4]}..., {flat[:4]}... was expected")


def counted(server: Server, model: str) -> tuple[int, int]:
    """Successes and failures that ModelStatistics tells. Raises `Unoffered` where there is none."""
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            STATISTICS,
            request_serializer=pb.ModelStatisticsRequest.SerializeToString,
            response_deserializer=pb.ModelStatisticsResponse.FromString,
        )
        try:
            answer = call(pb.ModelStatisticsRequest(name=model), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise Unoffered(f"{error.code().name} {error.details()}") from error
    stats = [one.inference_stats for one in answer.model_stats]
    return sum(one.success.count for one in stats), sum(one.fail.count for one in stats)
