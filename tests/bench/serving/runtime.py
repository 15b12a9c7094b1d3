"""onnxruntime in this process, one thread, batch 1: what the answers must be, and the least that a request can cost."""

from __future__ import annotations

import time
from functools import cache

import onnxruntime

from tests.bench.serving.h2load import Load
from tests.bench.serving.models import INPUT, MODELS, OUTPUT, Array


@cache
def session(name: str) -> onnxruntime.InferenceSession:
    """Of one model, opened once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(MODELS[name].file(), options, providers=["CPUExecutionProvider"])


@cache
def answer(name: str) -> Array:
    """To the sample that everyone is sent."""
    (found,) = session(name).run([OUTPUT], {INPUT: MODELS[name].sample()})
    output: Array = found
    output.setflags(write=False)
    return output


def run(name: str, seconds: float) -> tuple[Load, float]:
    """One call after the other; also the CPU seconds that they took."""
    tensor, opened = MODELS[name].sample(), session(name)
    opened.run([OUTPUT], {INPUT: tensor})
    taken: list[float] = []
    begun, cpu = time.perf_counter(), time.process_time()
    now = begun
    while now < begun + seconds:
        opened.run([OUTPUT], {INPUT: tensor})
        before, now = now, time.perf_counter()
        taken.append(now - before)
    return Load(now - begun, len(taken), 0, 0, tuple(sorted(taken))), time.process_time() - cpu
