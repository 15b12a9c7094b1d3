"""An infer request over HTTP: JSON, binary tensors behind it, compressed bodies."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import numpy as np

from services.serving.handlers.requests import asked_of, feed_of, wanted_of
from services.serving.inbound.v2.bodies import _inflated
from services.serving.inbound.v2.errors import HttpError
from services.serving.inbound.v2.tensors import call_of
from tests.fuzz.fuzz_grpc import BOARD, CONFIG, VERSION
from tests.fuzz.harness import throw

LIMIT = 1 << 20


def run(seconds: float, seed: int | None = None) -> None:
    """For so long; an assertion fails, or another error than ours comes out, when something is wrong."""
    throw(seconds, seed, seeds(), read)


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
    _, rows = feed_of(VERSION, call, BOARD)
    assert 1 <= rows <= 8


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
    return [plain, mixed, region, gzip.compress(plain)]
