"""The kit itself: the twins of a model compute the same, the table reaches every call, messages fall in classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from inference import grpc_service_pb2 as pb

from tests.conformance.cases import Grpc, Http
from tests.conformance.catalogue import EVERY
from tests.conformance.comparison import differing, stale, unaccounted
from tests.conformance.computations import Arrays
from tests.conformance.differences import DIFFERENCES, Difference
from tests.conformance.messages import class_of
from tests.conformance.models import Model, Version
from tests.conformance.requests import REQUESTS, by_name
from tests.conformance.tensors import NUMPY, decode, encode
from tools.serving_compatibility import PAGE, main

TWINS = [
    (model, version) for model in EVERY for version in model.versions.values() if version.graph and version.computation
]
NO_NUMPY = ("BF16", "BYTES")
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


def arrays(version: Version) -> Arrays:
    """Small whole numbers for every input of a graph, so that both twins are exact; open sizes become 2."""
    assert version.graph is not None
    session = onnxruntime.InferenceSession(version.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    return {
        one.name: _array(one.type, [size if isinstance(size, int) else 2 for size in one.shape])
        for one in session.get_inputs()
    }


def _array(kind: str, shape: list[int]) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape))
    if kind == "tensor(string)":
        return np.array([str(place) for place in range(count)], dtype=object).reshape(shape)
    named = {
        "tensor(bool)": np.bool_,
        "tensor(float)": np.float32,
        "tensor(double)": np.float64,
        "tensor(float16)": np.float16,
    }
    found = named.get(kind) or np.dtype(kind.removeprefix("tensor(").removesuffix(")")).type
    return (np.arange(count) % 3).reshape(shape).astype(found)


@pytest.mark.parametrize(("model", "version"), TWINS, ids=lambda one: getattr(one, "name", ""))
def test_the_graph_and_the_python_model_compute_the_same(model: Model, version: Version) -> None:
    if any(tensor.datatype == "BF16" for tensor in model.inputs):
        return  # numpy has no such type; the oracle passes it on untouched
    assert version.graph is not None
    assert version.computation is not None
    given = arrays(version)
    session = onnxruntime.InferenceSession(version.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    graph = dict(zip(names, session.run(names, given), strict=True))
    twin = version.computation({name: _as_triton_gives(values) for name, values in given.items()})
    for name in names:
        assert _as_triton_gives(graph[name]).tolist() == twin[name].tolist(), name


def _as_triton_gives(values: Any) -> Any:
    if values.dtype == object:
        return np.array([str(one).encode() for one in values.ravel()], dtype=object).reshape(values.shape)
    return values


def test_every_call_of_the_service_is_made_well_and_with_malformed_bytes() -> None:
    called = {
        step.method
        for case in REQUESTS
        for step in case.steps
        if isinstance(step, Grpc) and "malformed" not in case.name
    }
    malformed = {
        step.method for case in REQUESTS for step in case.steps if isinstance(step, Grpc) and "malformed" in case.name
    }
    methods = {method.name for method in SERVICE.methods}
    assert methods <= called
    assert methods <= malformed


def test_every_route_of_http_is_asked() -> None:
    paths = [step.path for case in REQUESTS for step in case.steps if isinstance(step, Http)]
    endings = (
        *(
            "/v2",
            "/health/live",
            "/health/ready",
            "/ready",
            "/config",
            "/stats",
            "/infer",
            "/repository/index",
            "/load",
            "/unload",
        ),
        *(
            "/systemsharedmemory/status",
            "/register",
            "/unregister",
            "/cudasharedmemory/status",
            "/trace/setting",
            "/logging",
        ),
    )
    assert [ending for ending in endings if not any(path.endswith(ending) for path in paths)] == []


def test_cases_have_names_of_their_own() -> None:
    assert len(by_name()) == len(REQUESTS)


@pytest.mark.parametrize("datatype", [*NUMPY, *NO_NUMPY])
def test_what_is_encoded_is_decoded_again(datatype: str) -> None:
    values = [b"a\0", b""] if datatype == "BYTES" else [True, False] if datatype == "BOOL" else [1, 2]
    expected = ["a\0", ""] if datatype == "BYTES" else values
    assert decode(datatype, encode(datatype, values)) == expected


def test_messages_of_both_words_fall_in_one_class() -> None:
    assert class_of("Request for unknown model: 'x' is not found") == "unknown model"
    assert class_of("[request id: 9] Request for unknown model: 'x' version 7 is not found") == "unknown version"
    assert class_of("something new") == "other"


def test_the_wording_of_a_message_is_not_compared_but_its_class_is() -> None:
    oracle = {"a": [{"code": "X", "message": "shape", "text": "one"}], "b": [{"code": "X", "message": "shape"}]}
    ours = {"a": [{"code": "X", "message": "shape", "text": "two"}], "b": [{"code": "X", "message": "other"}]}
    assert differing(ours, oracle) == ["b"]


def test_an_entry_covers_by_pattern_and_is_stale_when_nothing_differs() -> None:
    entry = Difference("wire", "", "", "", ("grpc/wire/*",))
    assert unaccounted(["grpc/wire/cut off", "http/x"], [entry]) == ["http/x"]
    assert stale(["http/x"], [entry]) == ["wire: grpc/wire/*"]
    assert stale(["grpc/wire/cut off"], [entry]) == []


def test_every_listed_difference_names_cases_that_exist() -> None:
    unknown = [
        pattern
        for one in DIFFERENCES
        for pattern in one.cases
        if not any(Difference("", "", "", "", (pattern,)).covers(name) for name in by_name())
    ]
    assert unknown == []


def test_the_page_of_differences_is_what_the_table_says(tmp_path: Path) -> None:
    main([str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == PAGE.read_text(), "python -m tools.serving_compatibility"
