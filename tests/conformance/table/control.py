"""Loading and unloading models, trace settings and log settings, on both transports.

They work on the model `controlled`, which no other request asks for, and end with it loaded as it lies.
"""

from __future__ import annotations

import json
from typing import Final

from inference import grpc_service_pb2 as pb

from tests.conformance.cases import Case, Step, case, get, grpc_call, infer_path, infer_request, json_input, post
from tests.conformance.table.inputs import PAIR

MODEL: Final = "controlled"
LARGER: Final = json.dumps({"max_batch_size": "16", "dynamic_batching": {}})
Value = str | int | bool | bytes


def _value(given: Value) -> pb.ModelRepositoryParameter:
    if isinstance(given, bool):
        return pb.ModelRepositoryParameter(bool_param=given)
    if isinstance(given, int):
        return pb.ModelRepositoryParameter(int64_param=given)
    if isinstance(given, bytes):
        return pb.ModelRepositoryParameter(bytes_param=given)
    return pb.ModelRepositoryParameter(string_param=given)


def load(model: str = MODEL, repository: str = "", **parameters: Value) -> Step:
    """Over gRPC; a double underscore in a parameter's name stands for a colon."""
    given = {name.replace("__", ":"): _value(value) for name, value in parameters.items()}
    return grpc_call(pb.RepositoryModelLoadRequest(model_name=model, repository_name=repository, parameters=given))


def unload(model: str = MODEL, repository: str = "", **parameters: Value) -> Step:
    """Over gRPC."""
    given = {name: _value(value) for name, value in parameters.items()}
    return grpc_call(pb.RepositoryModelUnloadRequest(model_name=model, repository_name=repository, parameters=given))


def load_file(path: str, **parameters: Value) -> Step:
    """A load with one file of that path, of eight bytes."""
    given = {name: _value(value) for name, value in parameters.items()} | {f"file:{path}": _value(b"contents")}
    return grpc_call(pb.RepositoryModelLoadRequest(model_name=MODEL, parameters=given))


READY: Final = grpc_call(pb.ModelReadyRequest(name=MODEL))
CONFIG: Final = grpc_call(pb.ModelConfigRequest(name=MODEL))
INFER: Final = grpc_call(infer_request(MODEL, PAIR))
METADATA: Final = grpc_call(pb.ModelMetadataRequest(name=MODEL))
STATISTICS: Final = grpc_call(pb.ModelStatisticsRequest(name=MODEL))
PATH: Final = f"/v2/repository/models/{MODEL}"
AS_IT_LIES: Final = json.dumps({"max_batch_size": 8, "dynamic_batching": {}})

MODELS: Final = [
    case("control/load", load(), READY, INFER),
    case("control/load unknown", load("nobody")),
    case("control/load without a name", load("")),
    case("control/load broken", load("broken")),
    case("control/load with a larger batch", load(config=LARGER), CONFIG, load(config=AS_IT_LIES), CONFIG),
    case("control/load, configuration is no JSON", load(config="{"), READY),
    case("control/load, configuration has an unknown field", load(config='{"colour": 1}'), READY),
    case("control/load, configuration has a wrong type", load(config='{"max_batch_size": "many"}'), READY),
    case("control/load, configuration names another model", load(config='{"name": "other"}'), READY),
    case("control/load, configuration is a number", load(config=5)),
    case("control/load, unknown parameter", load(colour="red")),
    case("control/load, file that climbs", load_file("../x", config="{}"), READY),
    case("control/load, file with an absolute path", load_file("/tmp/irisloop_conformance_x", config="{}"), READY),
    case("control/load, files without a configuration", load_file("1/model.onnx"), READY),
    case("control/load, repository named", load(repository="other")),
    case("control/unload", unload(), READY, INFER, METADATA, STATISTICS, load(), READY, INFER),
    case("control/unload twice", unload(), unload(), load()),
    case("control/unload unknown", unload("nobody")),
    case("control/unload with its dependents", unload(unload_dependents=True), READY, load()),
    case("control/unload, dependents as text", unload(unload_dependents="yes"), READY),
    case("control/unload, unknown parameter", unload(colour=True), load(), READY),
    case("control/unload, repository named", unload(repository="other")),
    case("control/HTTP load", post(f"{PATH}/load", {}), get(f"/v2/models/{MODEL}/ready")),
    case("control/HTTP load without a body", post(f"{PATH}/load")),
    case("control/HTTP load unknown", post("/v2/repository/models/nobody/load", {})),
    case("control/HTTP load broken", post("/v2/repository/models/broken/load", {})),
    case("control/HTTP load, bad JSON", post(f"{PATH}/load", b"{")),
    case(
        "control/HTTP load, configuration",
        post(f"{PATH}/load", {"parameters": {"config": LARGER}}),
        CONFIG,
        load(config=AS_IT_LIES),
    ),
    case("control/HTTP load, configuration is no JSON", post(f"{PATH}/load", {"parameters": {"config": "{"}})),
    case("control/HTTP load, configuration is an object", post(f"{PATH}/load", {"parameters": {"config": {}}})),
    case("control/HTTP load, unknown parameter", post(f"{PATH}/load", {"parameters": {"colour": "red"}})),
    case(
        "control/HTTP load, file without a configuration",
        post(f"{PATH}/load", {"parameters": {"file:1/model.onnx": "eHg="}}),
    ),
    case(
        "control/HTTP unload",
        post(f"{PATH}/unload", {}),
        get(f"/v2/models/{MODEL}/ready"),
        post(infer_path(MODEL), {"inputs": [json_input(one) for one in PAIR]}),
        post(f"{PATH}/load", {}),
    ),
    case("control/HTTP unload unknown", post("/v2/repository/models/nobody/unload", {})),
]


def trace(model: str = "", **settings: list[str]) -> Step:
    """Over gRPC."""
    given = {name: pb.TraceSettingRequest.SettingValue(value=values) for name, values in settings.items()}
    return grpc_call(pb.TraceSettingRequest(model_name=model, settings=given))


def log(**settings: bool | int | str) -> Step:
    """Over gRPC."""
    return grpc_call(pb.LogSettingsRequest(settings={name: _setting(value) for name, value in settings.items()}))


def _setting(given: bool | int | str) -> pb.LogSettingsRequest.SettingValue:
    if isinstance(given, bool):
        return pb.LogSettingsRequest.SettingValue(bool_param=given)
    if isinstance(given, int):
        return pb.LogSettingsRequest.SettingValue(uint32_param=given)
    return pb.LogSettingsRequest.SettingValue(string_param=given)


TRACE: Final = [
    case("trace/as it is", trace(), get("/v2/trace/setting")),
    case("trace/of a model", trace("simple"), get("/v2/models/simple/trace/setting")),
    case("trace/of an unknown model", trace("nobody"), get("/v2/models/nobody/trace/setting")),
    case("trace/rate, and back", trace(trace_rate=["10"]), trace(trace_rate=[])),
    case("trace/rate of a model, and back", trace("simple", trace_rate=["7"]), trace(), trace("simple", trace_rate=[])),
    case("trace/rate given twice", trace(trace_rate=["1", "2"])),
    case("trace/rate that is no number", trace(trace_rate=["often"])),
    case("trace/count, and back", trace(trace_count=["5"]), trace(trace_count=[])),
    case("trace/count that is no number", trace(trace_count=["many"])),
    case("trace/level without a file", trace(trace_level=["TIMESTAMPS", "TENSORS"]), trace(trace_level=["OFF"])),
    case("trace/unknown level", trace(trace_level=["LOUD"])),
    case("trace/unknown setting", trace(colour=["red"])),
    case("trace/file", trace(trace_file=["x.json"])),
    case(
        "trace/HTTP rate, and back",
        post("/v2/trace/setting", {"trace_rate": "10"}),
        post("/v2/trace/setting", {"trace_rate": None}),
    ),
    case(
        "trace/HTTP rate as a number",
        post("/v2/trace/setting", {"trace_rate": 10}),
        post("/v2/trace/setting", {"trace_rate": None}),
    ),
    case("trace/HTTP of an unknown model", post("/v2/models/nobody/trace/setting", {"trace_rate": "1"})),
    case("trace/HTTP file", post("/v2/trace/setting", {"trace_file": "x.json"})),
    case("trace/HTTP unknown setting", post("/v2/trace/setting", {"colour": "red"})),
    case("trace/HTTP count that is no number", post("/v2/trace/setting", {"trace_count": "many"})),
    case("trace/HTTP bad JSON", post("/v2/trace/setting", b"[")),
]
LOG: Final = [
    case("log/as it is", log(), get("/v2/logging")),
    case("log/verbose, and back", log(log_verbose_level=1), log(log_verbose_level=0)),
    case("log/no information, and back", log(log_info=False), log(log_info=True)),
    case("log/verbose as text", log(log_verbose_level="1")),
    case("log/information as text", log(log_info="yes")),
    case("log/format, and back", log(log_format="ISO8601"), log(log_format="default")),
    case("log/unknown format", log(log_format="pretty")),
    case("log/unknown setting", log(colour=True)),
    case("log/file", log(log_file="x.log")),
    case(
        "log/HTTP verbose, and back",
        post("/v2/logging", {"log_verbose_level": 1}),
        post("/v2/logging", {"log_verbose_level": 0}),
    ),
    case("log/HTTP verbose below zero", post("/v2/logging", {"log_verbose_level": -1})),
    case("log/HTTP information as text", post("/v2/logging", {"log_info": "yes"})),
    case("log/HTTP unknown format", post("/v2/logging", {"log_format": "pretty"})),
    case("log/HTTP unknown setting", post("/v2/logging", {"colour": True})),
    case("log/HTTP file", post("/v2/logging", {"log_file": "x.log"})),
    case("log/HTTP without a body", post("/v2/logging")),
]
CONTROL: Final[list[Case]] = [*MODELS, *TRACE, *LOG]
