"""An infer request over HTTP: JSON, binary tensors behind it, compressed bodies; and its tensors as an answer."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import numpy as np

from services.serving.domain.calls import AnsweredOutput, InferAnswer
from services.serving.handlers.requests import asked_of, feed_of, wanted_of
from services.serving.inbound.v2.bodies import _inflated
from services.serving.inbound.v2.errors import HttpError
from services.serving.inbound.v2.tensors import answer_parts, call_of
from tests.fuzz.fuzz_grpc import BOARD, CONFIG, VERSION
from tests.fuzz.harness import throw

LIMIT = 1 << 20


def run(seconds: float, seed: int | None = None) -> int:
    """How many inputs it tried in so long. Raises `AssertionError`, or any error that is not ours."""
    return throw(seconds, seed, seeds(), read)


def read(data: bytes, rng: random.Random) -> None:
    """The road of a body up to the queue."""
    if data[:2] == b"\x1f\x8b" or rng.random() < 0.05:
        try:
            data = _inflated(data, rng.choice(("gzip", "deflate")), LIMIT)
        except HttpError:
            return
        assert len(data) <= LIMIT
    size = rng.choice((None, data.rfind(b"}") + 1, rng.randrange(len(data) + 1)))
    call = call_of("m", "", data, size)
    wanted_of(CONFIG, call)
    asked_of(call, CONFIG)
    feed, rows = feed_of(VERSION, call, BOARD)
    assert 1 <= rows <= 8
    types = {tensor.name: tensor.datatype for tensor in call.inputs}
    outputs = [
        AnsweredOutput(name, types[name], array.shape, array, binary=rng.random() < 0.5) for name, array in feed.items()
    ]
    head, raws = answer_parts(InferAnswer(VERSION, call.id, outputs))
    sizes = [one.get("parameters", {}).get("binary_data_size", 0) for one in json.loads(head)["outputs"]]
    assert sum(sizes) == sum(map(len, raws))


def seeds() -> list[bytes]:
    """Good bodies."""
    numbers: dict[str, Any] = {"name": "numbers", "datatype": "FP32", "shape": [2, 3]}
    plain = json.dumps({"id": "call", "inputs": [{**numbers, "data": [[1, 2.5, 3], [4, 5, 6]]}]}).encode()
    words = {"name": "words", "datatype": "BYTES", "shape": [2, 1], "data": ["a\u0000b", "\u00e9"]}
    shared = {"shared_memory_region": "region", "shared_memory_byte_size": 24, "shared_memory_offset": 8}
    mixed = (
        json.dumps(
            {
                "inputs": [{**numbers, "parameters": {"binary_data_size": 24}}, words],
                "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
                "parameters": {"sequence_id": "s", "sequence_start": True, "priority": 1, "binary_data_output": True},
            }
        ).encode()
        + np.zeros((2, 3), np.float32).tobytes()
    )
    region = json.dumps({"inputs": [{**numbers, "parameters": shared}]}).encode()
    unreal = plain.replace(b"2.5", b"NaN").replace(b"[4,", b"[-Infinity,")
    deep = plain.replace(b"2.5", b"[" * 600 + b"]" * 600)
    return [plain, mixed, region, unreal, deep, deep.replace(b"[4,", b"[NaN,"), gzip.compress(plain)]
