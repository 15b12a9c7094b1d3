"""ModelInfer's bytes: cut at their fields, made into a call, and checked against a model."""

from __future__ import annotations

import random

import numpy as np
from inference import grpc_service_pb2 as pb

from services.serving.domain.config import ModelConfig, SequenceBatching, TensorConfig
from services.serving.domain.routes import Version
from services.serving.handlers.requests import asked_of, feed_of, wanted_of
from services.serving.inbound.tensors import call_of
from services.serving.inbound.wire import LARGE, request_of
from tests.fuzz.harness import throw
from tests.unit.serving.test_repository import Idle
from tests.unit.serving.test_requests import Board

INPUTS = (
    TensorConfig("numbers", "FP32", (-1,)),
    TensorConfig("words", "BYTES", (-1,), optional=True),
    TensorConfig("flags", "BOOL", (2,), optional=True),
)
CONFIG = ModelConfig(
    "m", "onnxruntime", 8, INPUTS, (TensorConfig("y", "FP32", (3,)),), sequence_batching=SequenceBatching()
)
VERSION = Version("m", "1", CONFIG, Idle())
BOARD = Board(region=bytes(1024))


def run(seconds: float, seed: int | None = None) -> int:
    """How many inputs it tried in so long. Raises `AssertionError`, or any error that is not ours."""
    return throw(seconds, seed, seeds(), read)


def read(data: bytes, rng: random.Random) -> None:
    """The road of a call up to the queue."""
    call = call_of(request_of(data))
    wanted_of(CONFIG, call)
    asked_of(call, CONFIG)
    feed, rows = feed_of(VERSION, call, BOARD)
    assert 1 <= rows <= 8
    assert all(array.shape[0] == rows for array in feed.values())


def seeds() -> list[bytes]:
    """Good requests: raw, typed, large, in shared memory, of a sequence."""
    raw = _request()
    raw.raw_input_contents.append(np.zeros((2, 3), np.float32).tobytes())
    raw.inputs.add(name="words", datatype="BYTES", shape=[2, 1])
    raw.raw_input_contents.append(b"\x02\x00\x00\x00ab\x00\x00\x00\x00")
    typed = _request()
    typed.inputs[0].contents.fp32_contents.extend([0.5] * 6)
    typed.inputs.add(name="flags", datatype="BOOL", shape=[2, 2]).contents.bool_contents.extend([True] * 4)
    large = _request(LARGE)
    large.raw_input_contents.append(bytes(8 * LARGE))
    shared = _request()
    shared.inputs[0].parameters["shared_memory_region"].string_param = "region"
    shared.inputs[0].parameters["shared_memory_byte_size"].int64_param = 24
    shared.inputs[0].parameters["shared_memory_offset"].int64_param = 8
    sequence = _request()
    sequence.raw_input_contents.append(bytes(24))
    sequence.parameters["sequence_id"].int64_param = 7
    sequence.parameters["sequence_start"].bool_param = True
    sequence.parameters["priority"].uint64_param = 2
    sequence.outputs.add(name="y").parameters["classification"].int64_param = 2
    return [one.SerializeToString() for one in (raw, typed, large, shared, sequence)]


def _request(columns: int = 3) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m", id="call")
    message.inputs.add(name="numbers", datatype="FP32", shape=[2, columns])
    return message
