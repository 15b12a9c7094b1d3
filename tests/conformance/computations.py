"""What each test model computes, in numpy: the oracle's Python backend runs these very functions, and the ONNX graphs
of `tests.conformance.graphs` must give the same.

Each function is copied by its source into a model.py, so it uses nothing but `np` and its argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]
"""By tensor name; an optional input that was not sent is missing."""


def sum_and_difference(inputs: Arrays) -> Arrays:
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1."""
    first, second = inputs["INPUT0"], inputs["INPUT1"]
    return {"OUTPUT0": first + second, "OUTPUT1": first - second}


def string_sum_and_difference(inputs: Arrays) -> Arrays:
    """The same on decimal numbers as strings."""
    first, second = (
        np.array([int(text) for text in inputs[name].ravel()], dtype=np.int64).reshape(inputs[name].shape)
        for name in ("INPUT0", "INPUT1")
    )
    texts = {"OUTPUT0": first + second, "OUTPUT1": first - second}
    return {
        name: np.array([str(one).encode() for one in values.ravel()], dtype=object).reshape(values.shape)
        for name, values in texts.items()
    }


def identity(inputs: Arrays) -> Arrays:
    """Each INPUTx comes back as OUTPUTx."""
    return {name.replace("INPUT", "OUTPUT"): values for name, values in inputs.items()}


def marked_start(inputs: Arrays) -> Arrays:
    """OUTPUT = READY * (INPUT + START)."""
    values = inputs["INPUT"]
    start, ready = (inputs[name].reshape(-1, 1) for name in ("START", "READY"))
    return {"OUTPUT": ready * (values + start)}


def marked_start_and_end(inputs: Arrays) -> Arrays:
    """OUTPUT = READY * (INPUT + START + END * CORRID)."""
    values = inputs["INPUT"]
    start, end, ready = (inputs[name].reshape(-1, 1) for name in ("START", "END", "READY"))
    sequence = inputs["CORRID"].reshape(-1, 1).astype(np.int32)
    return {"OUTPUT": ready * (values + start + end * sequence)}


def class_scores(inputs: Arrays) -> Arrays:
    """IMAGE [n, 3, 8, 8] to SCORES [n, 5]: the k-th score is the mean of the image times k, less k squared."""
    means = inputs["IMAGE"].astype(np.float32).mean(axis=(1, 2, 3), dtype=np.float32).reshape(-1, 1)
    steps = np.arange(5, dtype=np.float32)
    return {"SCORES": (means * steps - steps * steps).astype(np.float32)}


def sum_with_default(inputs: Arrays) -> Arrays:
    """OUTPUT = INPUT + BIAS; BIAS is ten where it was not sent."""
    bias = inputs.get("BIAS", np.full_like(inputs["INPUT"], 10))
    return {"OUTPUT": inputs["INPUT"] + bias}


def transposed(inputs: Arrays) -> Arrays:
    """MATRIX [n, 2, 2] to its transpose, times SCALE [n]."""
    scale = inputs["SCALE"].reshape(-1, 1, 1)
    return {"TURNED": np.ascontiguousarray(inputs["MATRIX"].transpose(0, 2, 1) * scale)}


def doubled(inputs: Arrays) -> Arrays:
    """Twice the INPUT, of any two dimensions, and its SHAPE."""
    return {"OUTPUT": inputs["INPUT"] * 2, "SHAPE": np.array(inputs["INPUT"].shape, dtype=np.int64)}


def picked(inputs: Arrays) -> Arrays:
    """OUTPUT = the INDEX-th of [10, 11, 12, 13]: any other index fails in the runtime, not in the checks."""
    return {"OUTPUT": np.array([10, 11, 12, 13], dtype=np.int64)[inputs["INDEX"]]}


def plus_one(inputs: Arrays) -> Arrays:
    """OUTPUT = INPUT + 1: version 1 of the model that has several."""
    return {"OUTPUT": inputs["INPUT"] + 1}


def plus_three(inputs: Arrays) -> Arrays:
    """OUTPUT = INPUT + 3: version 3."""
    return {"OUTPUT": inputs["INPUT"] + 3}
