"""Liveness, metadata, configuration, index, statistics: every call that only asks, on both transports."""

from __future__ import annotations

from typing import Final

from inference import grpc_service_pb2 as pb

from tests.conformance.cases import Case, Http, case, get, grpc_call, infer_path, infer_request, json_input, post
from tests.conformance.table.inputs import PAIR, pair

MODELS: Final = (
    "simple",
    "flexible",
    "reshaped",
    "with_default",
    "every_datatype",
    "pictures",
    "chained",
    "repeat_int32",
    "simple_sequence",
)
CONFIGURED: Final = (
    "simple",
    "pictures",
    "chained",
    "versioned",
    "prioritised",
    "simple_dyna_sequence",
    "repeat_int32",
    "unconfigured",
)
WRONG: Final = (
    ("unknown", "nobody", ""),
    ("unknown version", "simple", "7"),
    ("broken", "broken", ""),
    ("no name", "", ""),
)


def _versions(
    call: type[pb.ModelMetadataRequest] | type[pb.ModelConfigRequest] | type[pb.ModelReadyRequest],
) -> list[Case]:
    name = call.DESCRIPTOR.name.removesuffix("Request")
    wrong = [
        case(f"grpc/{name}/{what}", grpc_call(call(name=model, version=version))) for what, model, version in WRONG
    ]
    odd = [
        case(f"grpc/{name}/version {text!r}", grpc_call(call(name="simple", version=text)))
        for text in ("1", "abc", "-1", "0")
    ]
    return wrong + odd


GRPC: Final = [
    case("grpc/ServerLive", grpc_call(pb.ServerLiveRequest())),
    case("grpc/ServerReady/with a broken model", grpc_call(pb.ServerReadyRequest())),
    case("grpc/ServerMetadata", grpc_call(pb.ServerMetadataRequest())),
    *_versions(pb.ModelReadyRequest),
    case("grpc/ModelReady", grpc_call(pb.ModelReadyRequest(name="simple"))),
    *_versions(pb.ModelMetadataRequest),
    *(
        case(f"grpc/ModelMetadata/{name}", grpc_call(pb.ModelMetadataRequest(name=name)))
        for name in (*MODELS, "versioned")
    ),
    *_versions(pb.ModelConfigRequest),
    *(case(f"grpc/ModelConfig/{name}", grpc_call(pb.ModelConfigRequest(name=name))) for name in CONFIGURED),
    case("grpc/RepositoryIndex", grpc_call(pb.RepositoryIndexRequest())),
    case("grpc/RepositoryIndex/ready", grpc_call(pb.RepositoryIndexRequest(ready=True))),
    case("grpc/RepositoryIndex/repository named", grpc_call(pb.RepositoryIndexRequest(repository_name="other"))),
    *(
        case(f"grpc/ModelStatistics/{what}", grpc_call(pb.ModelStatisticsRequest(name=model, version=version)))
        for what, model, version in WRONG[:3]
    ),
    case(
        "grpc/ModelStatistics/counts",
        grpc_call(infer_request("counted", PAIR)),
        grpc_call(infer_request("counted", pair(3))),
        grpc_call(infer_request("counted", pair(9))),
        grpc_call(pb.ModelStatisticsRequest(name="counted")),
    ),
]

HTTP: Final = [
    *(
        case(f"http/GET {path}", get(path))
        for path in (
            *("/v2", "/v2/", "/v2/nothing", "/v2/models", "/v1/models", "/"),
            *("/v2/health/live", "/v2/health/ready"),
            *("/v2/models/simple/ready", "/v2/models/nobody/ready", "/v2/models/broken/ready"),
            *("/v2/models/simple/versions/1/ready", "/v2/models/simple/versions/7/ready"),
            "/v2/models/simple/versions/abc/ready",
            *(f"/v2/models/{name}" for name in MODELS),
            *("/v2/models/nobody", "/v2/models/broken", "/v2/models/simple/versions/7", "/v2/models/simple/versions/1"),
            *(f"/v2/models/{name}/config" for name in CONFIGURED),
            *("/v2/models/nobody/config", "/v2/models/simple/versions/1/config", "/v2/models/simple/versions/7/config"),
            *("/v2/models/nobody/stats", "/v2/models/broken/stats", "/v2/models/simple/versions/7/stats"),
            *("/v2/models/simple/infer", "/v2/models/simple/nothing", "/v2/repository/index"),
        )
    ),
    *(case(f"http/POST {path}", Http("POST", path, b"")) for path in ("/v2", "/v2/health/live", "/v2/models/simple")),
    case("http/index", post("/v2/repository/index", {})),
    case("http/index without a body", post("/v2/repository/index")),
    case("http/index of the ready", post("/v2/repository/index", {"ready": True})),
    case("http/index, bad JSON", post("/v2/repository/index", b"{")),
    case(
        "http/statistics/counts",
        post(infer_path("counted_http"), {"inputs": [json_input(one) for one in PAIR]}),
        post(infer_path("counted_http"), {"inputs": [json_input(one) for one in pair(3)]}),
        post(infer_path("counted_http"), {"inputs": [json_input(one) for one in pair(9)]}),
        get("/v2/models/counted_http/stats"),
    ),
]
METADATA: Final[list[Case]] = [*GRPC, *HTTP]
