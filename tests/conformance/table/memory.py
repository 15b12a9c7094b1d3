"""System and CUDA shared memory: registering, inference from and into a region, and what must be refused.

Every case begins and ends with no region registered, and has a key of its own, since Triton 2.51 mixes up two names of
one key.
"""

from __future__ import annotations

from itertools import count
from typing import Final

from inference import grpc_service_pb2 as pb

from tests.conformance.cases import (
    Case,
    Parameter,
    Region,
    Step,
    case,
    get,
    grpc_call,
    infer_path,
    infer_request,
    post,
    set_parameters,
)
from tests.conformance.table.inputs import FIRST, PAIR, SECOND

SIZE: Final = 256
CONTENT: Final = FIRST.raw() + SECOND.raw() + bytes(SIZE - 128)
CLEAR: Final = grpc_call(pb.SystemSharedMemoryUnregisterRequest())
_numbers = count()


def _key() -> str:
    return f"/irisloop_conformance_{next(_numbers)}"


def register(key: str, name: str = "region", offset: int = 0, size: int = SIZE) -> Step:
    """Over gRPC."""
    return grpc_call(pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=size))


def status(name: str = "") -> Step:
    """Over gRPC."""
    return grpc_call(pb.SystemSharedMemoryStatusRequest(name=name))


def region(name: str = "region", size: int = 64, offset: int = 0) -> dict[str, Parameter]:
    """Parameters of a tensor that lies in a region."""
    found: dict[str, Parameter] = {"shared_memory_region": name, "shared_memory_byte_size": size}
    return found | ({"shared_memory_offset": offset} if offset else {})


def refused(name: str, *, key: str | None = None, given: str = "region", offset: int = 0, size: int = SIZE) -> Case:
    """One registration on a clean state, and what is registered then."""
    own = _key()
    steps = (Region(own, CONTENT), register(own if key is None else key, given, offset, size), status())
    return case(f"memory/register/{name}", CLEAR, *steps, CLEAR)


def infer(
    name: str, first: dict[str, Parameter], *, output: dict[str, Parameter] | None = None, extra: str = ""
) -> Case:
    """`simple` with both inputs in a region, over gRPC."""
    key = _key()
    request = infer_request("simple", (), outputs=[("OUTPUT0", output or {})])
    for tensor, place in ((FIRST, first), (SECOND, region(offset=64))):
        added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        set_parameters(added.parameters, place)
    if extra == "raw":
        request.raw_input_contents.extend(one.raw() for one in PAIR)
    if extra == "contents":
        request.inputs[0].contents.CopyFrom(FIRST.contents())
    steps = (Region(key, CONTENT), register(key), grpc_call(request), Region(key, read=(128, 192)))
    return case(f"memory/infer/{name}", CLEAR, *steps, CLEAR)


def infer_http(
    name: str, first: dict[str, object], *, output: dict[str, object] | None = None, data: bool = False
) -> Case:
    """The same over HTTP, registration too."""
    key = _key()
    inputs = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "parameters": place}
        for tensor, place in ((FIRST, first), (SECOND, region(offset=64)))
    ]
    if data:
        inputs[0]["data"] = FIRST.json()
    outputs = [{"name": "OUTPUT0", **({"parameters": output} if output else {})}]
    steps = (
        Region(key, CONTENT),
        post("/v2/systemsharedmemory/region/region/register", {"key": key, "offset": 0, "byte_size": SIZE}),
        post(infer_path("simple"), {"inputs": inputs, "outputs": outputs}),
        Region(key, read=(128, 192)),
    )
    return case(f"memory/infer over HTTP/{name}", CLEAR, *steps, CLEAR)


def _twice() -> Case:
    key = _key()
    return case("memory/register/the same name again", CLEAR, Region(key, CONTENT), register(key), register(key), CLEAR)


def _statuses() -> Case:
    key, path = _key(), "/v2/systemsharedmemory"
    steps = (register(key), status(), status("region"), status("other"))
    over_http = (get(f"{path}/status"), get(f"{path}/region/region/status"), get(f"{path}/region/other/status"))
    ends = (
        post(f"{path}/region/region/unregister"),
        post(f"{path}/region/region/unregister"),
        post(f"{path}/unregister"),
    )
    return case("memory/status", CLEAR, Region(key, CONTENT), *steps, *over_http, *ends, get(f"{path}/status"), CLEAR)


def _register_http(name: str, document: object) -> Case:
    return case(
        f"memory/register over HTTP/{name}",
        CLEAR,
        post("/v2/systemsharedmemory/region/region/register", document),
        CLEAR,
    )


MEMORY: Final[list[Case]] = [
    _statuses(),
    _twice(),
    refused("whole"),
    refused("no name", given=""),
    refused("unknown key", key="/irisloop_conformance_missing"),
    refused("no key", key=""),
    refused("key that climbs", key="/../../etc/passwd"),
    refused("key that is reserved", key="/triton_python_backend_shm_region_1"),
    refused("larger than the region", size=SIZE + 1),
    refused("far larger than the region", size=1 << 20),
    refused("nothing", size=0),
    refused("offset beyond", offset=4096, size=16),
    refused("offset and size beyond", offset=200, size=100),
    refused("overflowing", offset=2**63, size=2**63),
    infer("good", region()),
    infer("into the region", region(), output=region(offset=128)),
    infer("into more of the region than needed", region(), output=region(size=96, offset=128)),
    infer("into too little of the region", region(), output=region(size=32, offset=128)),
    infer("into beyond the region", region(), output=region(offset=250)),
    infer("into an unknown region", region(), output=region("other")),
    infer("classes into the region", region(), output={**region(offset=128), "classification": 1}),
    infer("unknown region", region("other")),
    infer("empty region name", region("")),
    infer("offset beyond", region(offset=250)),
    infer("offset far beyond", region(offset=2**62)),
    infer("offset below zero", region(offset=-4)),
    infer("size too small", region(size=60)),
    infer("size too large", region(size=128)),
    infer("size beyond the region", region(size=1000)),
    infer("size zero", region(size=0)),
    infer("no size", {"shared_memory_region": "region"}),
    infer("size as text", {**region(), "shared_memory_byte_size": "64"}),
    infer("offset as text", {**region(), "shared_memory_offset": "0"}),
    infer("region as a number", {**region(), "shared_memory_region": 5}),
    infer("raw contents too", region(), extra="raw"),
    infer("contents too", region(), extra="contents"),
    infer_http("good", {**region()}),
    infer_http("into the region", {**region()}, output={**region(offset=128)}),
    infer_http("into too little of the region", {**region()}, output={**region(size=8, offset=128)}),
    infer_http("into beyond the region", {**region()}, output={**region(offset=250)}),
    infer_http("binary too", {**region()}, output={**region(offset=128), "binary_data": True}),
    infer_http("unknown region", {**region("other")}),
    infer_http("offset beyond", {**region(offset=250)}),
    infer_http("offset below zero", {**region(offset=-1)}),
    infer_http("size too small", {**region(size=4)}),
    infer_http("no size", {"shared_memory_region": "region"}),
    infer_http("size as text", {**region(), "shared_memory_byte_size": "64"}),
    infer_http("region as a number", {**region(), "shared_memory_region": 5}),
    infer_http("data too", {**region()}, data=True),
    _register_http("no key", {"offset": 0, "byte_size": 64}),
    _register_http("no size", {"key": "/x"}),
    _register_http("size as text", {"key": "/x", "byte_size": "64"}),
    _register_http("size below zero", {"key": "/x", "byte_size": -1}),
    _register_http("unknown key", {"key": "/irisloop_conformance_missing", "byte_size": 64}),
    case("memory/register over HTTP/bad JSON", post("/v2/systemsharedmemory/region/region/register", b"{")),
    case("memory/unregister/unknown", grpc_call(pb.SystemSharedMemoryUnregisterRequest(name="nothing"))),
    case("cuda/status", grpc_call(pb.CudaSharedMemoryStatusRequest())),
    case("cuda/status of one", grpc_call(pb.CudaSharedMemoryStatusRequest(name="region"))),
    case(
        "cuda/register",
        grpc_call(pb.CudaSharedMemoryRegisterRequest(name="region", raw_handle=b"1" * 64, byte_size=64)),
    ),
    case("cuda/unregister", grpc_call(pb.CudaSharedMemoryUnregisterRequest(name="region"))),
    case("cuda/status over HTTP", get("/v2/cudasharedmemory/status")),
    case(
        "cuda/register over HTTP",
        post(
            "/v2/cudasharedmemory/region/x/register", {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 64}
        ),
    ),
    case("cuda/unregister over HTTP", post("/v2/cudasharedmemory/unregister")),
]
