"""Reads MLServer's model-settings.json and settings.json into the same words as Triton's configuration.

MLServer runs a Python class for each model. Served here is the ONNX graph beside the settings; the class is not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from inference.model_config_pb2 import ModelConfig

from services.serving.errors import BadPackage
from services.serving.outbound.trees import is_inside

SETTINGS_FILE: Final = "model-settings.json"
SERVER_FILE: Final = "settings.json"
SETTINGS_BYTES: Final = 1 << 20
VERSION: Final = re.compile(r"v?(0|[1-9][0-9]{0,17})")
GRAPH_FILE: Final = "model.onnx"
OWN_RUNTIMES: Final = {
    "mlserver_sklearn": "export it with skl2onnx",
    "mlserver_xgboost": "export it with onnxmltools",
    "mlserver_lightgbm": "export it with onnxmltools",
    "mlserver_catboost": "save it with format='onnx'",
    "mlserver_mlflow": "log it with mlflow.onnx and serve its model.onnx",
    "mlserver_huggingface": "export it with optimum-cli export onnx",
    "mlserver_alibi_explain": "explanations are not served",
    "mlserver_alibi_detect": "drift is watched by `irisloop up`, outside of the model",
}
DATATYPES: Final = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32")
TYPES: Final = {**{name: f"TYPE_{name}" for name in DATATYPES}, "FP64": "TYPE_FP64", "BYTES": "TYPE_STRING"}
KNOWN: Final = (
    *("name", "implementation", "platform", "versions", "inputs", "outputs", "parallel_workers", "warm_workers"),
    *("max_batch_size", "max_batch_time", "parameters", "cache_enabled", "metadata"),
)
PARAMETERS: Final = (
    *("uri", "version", "environment_path", "environment_tarball", "inference_pool_gid"),
    *("autogenerate_inference_pool_gid", "format", "content_type", "extra"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which version of which model a settings file is about."""

    name: str
    version: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """A settings file in the words of a model configuration."""

    message: ModelConfig
    refusals: tuple[str, ...]
    """Why it cannot be served; empty when it can."""
    warnings: tuple[str, ...]


def identity(data: bytes, place: str) -> Identity:
    """Name and version; a file that cannot be read is a model named after its folder, so that it fails visibly."""
    fallback = place.rpartition("/")[2] or "model"
    try:
        document = _document(data, SETTINGS_FILE)
        name = _text(document, "name") or fallback
        version = _text(_object(document, "parameters"), "version")
    except BadPackage:
        return Identity(fallback, "")
    notes = (f"version {version!r} is no number: clients ask for it by its number here",)
    return Identity(name, version, () if not version or VERSION.fullmatch(version) else notes)


def numbered(found: Sequence[tuple[Identity, str]]) -> dict[str, dict[int, str]]:
    """{model: {version: folder}}: a version that is a number keeps it, others get the free ones, in order."""
    models: dict[str, dict[int, str]] = {}
    for one, place in found:
        number = VERSION.fullmatch(one.version)
        if number is not None:
            models.setdefault(one.name, {}).setdefault(int(number[1]), place)
    for one, place in sorted(found, key=lambda item: (item[0].version, item[1])):
        places = models.setdefault(one.name, {})
        if place not in places.values():
            places[max(places, default=0) + 1] = place
    return models


def read_settings(data: bytes, name: str, contents: Sequence[str]) -> Settings:
    """One model's settings. `contents`: the names beside the file. Raises `BadPackage` when it is no settings file."""
    document = _document(data, SETTINGS_FILE)
    parameters = _object(document, "parameters")
    filename, refusals = _graph_file(document, parameters, contents)
    message = ModelConfig(name=name, backend="onnxruntime", default_model_filename=filename)
    size = _whole(document, "max_batch_size")
    batched = size > 1
    message.max_batch_size = size if batched else 0
    _add_tensors(message, document, batched=batched)
    if batched:
        message.dynamic_batching.SetInParent()
    return Settings(message, tuple(refusals), tuple(_warnings(document, parameters)))


def server_notes(data: bytes) -> tuple[str, ...]:
    """What of settings.json, MLServer's own settings, becomes which option of `irisloop serve`, or has no effect."""
    document = _document(data, SERVER_FILE)
    return tuple(f"{key}: {SERVER[key]}" if key in SERVER else f"{key}: has no effect here" for key in document)


SERVER: Final = {
    "http_port": "give it as --http-port",
    "grpc_port": "give it as --grpc-port",
    "metrics_port": "give it as --metrics-port",
    "metrics_endpoint": "metrics are at /metrics",
    "host": "give it as --http-address",
    "debug": "give --log-verbose 1",
    "load_models_at_startup": "false is --model-control-mode explicit",
    "model_repository_root": "give it as --model-repository",
    "grpc_max_message_length": "IRISLOOP_SERVING__... bounds messages; see `irisloop serve --help`",
    "parallel_workers": "not needed: onnxruntime runs outside of Python's lock, in threads of this process",
    "cache_enabled": "answers are not cached: each one is computed and becomes an event",
    "kafka_enabled": "frames come by Irisloop's own topics",
    "tracing_server": "give it as IRISLOOP_OTLP_ENDPOINT",
}


def _graph_file(
    document: Mapping[str, Any], parameters: Mapping[str, Any], contents: Sequence[str]
) -> tuple[str, list[str]]:
    """The ONNX file, relative to the settings, and why there is none."""
    implementation = _text(document, "implementation")
    package = implementation.partition(".")[0]
    if package in OWN_RUNTIMES:
        return "", [f"implementation {implementation!r} is no ONNX graph: {OWN_RUNTIMES[package]}"]
    uri = _text(parameters, "uri").removeprefix("./").removeprefix("file:")
    graphs = [name for name in contents if name.endswith(".onnx")]
    if uri.endswith(".onnx"):
        inside = is_inside(uri)
        return uri, [] if inside else [f"parameters.uri {uri!r} must lie in the folder of its {SETTINGS_FILE}"]
    if GRAPH_FILE in graphs or len(graphs) == 1:
        return GRAPH_FILE if GRAPH_FILE in graphs else graphs[0], []
    why = f"holds {len(graphs)} ONNX files: name one in parameters.uri" if graphs else "holds no ONNX file"
    return "", [f"its folder {why}; a Python class ({implementation or 'none named'}) is not run"]


def _add_tensors(message: ModelConfig, document: Mapping[str, Any], *, batched: bool) -> None:
    for key, add in (("inputs", message.input.add), ("outputs", message.output.add)):
        items = document.get(key, [])
        if not isinstance(items, list):
            raise _bad(key, "is not a list")
        for place, item in enumerate(items):
            where = f"{key}[{place}]"
            if not isinstance(item, dict):
                raise _bad(where, "is not an object")
            shape = _shape(item, where)
            add(name=_text(item, "name", where), data_type=_datatype(item, where), dims=shape[1:] if batched else shape)


def _shape(item: Mapping[str, Any], where: str) -> list[int]:
    shape = item.get("shape")
    fits = isinstance(shape, list) and all(type(size) is int and -1 <= size < 1 << 62 for size in shape)
    if not fits or not shape:
        raise _bad(f"{where}.shape", "is not a list of sizes, the batch first, -1 for any")
    return list(shape)


def _datatype(item: Mapping[str, Any], where: str) -> Any:
    name = _text(item, "datatype", where)
    if name not in TYPES:
        raise _bad(f"{where}.datatype", f"is {name[:32]!r}; one of {', '.join(TYPES)} is needed")
    return TYPES[name]


def _warnings(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    found = [f"{key}: is not a field of {SETTINGS_FILE} and has no effect" for key in document if key not in KNOWN]
    found += [f"parameters.{key}: has no effect" for key in parameters if key not in PARAMETERS]
    if document.get("max_batch_time"):
        found.append("max_batch_time: batching is greedy: a batch is what waits, and nothing waits for a batch")
    if document.get("cache_enabled"):
        found.append("cache_enabled: answers are not cached: each one is computed and becomes an event")
    if _text(document, "implementation"):
        found.append(
            "implementation: the class is not run; what it does before and after the graph belongs into the graph"
        )
    for key in ("environment_path", "environment_tarball", "inference_pool_gid"):
        if parameters.get(key):
            found.append(f"parameters.{key}: has no effect: no Python of the model's is run")
    typed = [item for key in ("inputs", "outputs") for item in document.get(key) or [] if _typed(item)]
    if parameters.get("content_type") or typed:
        found.append(
            "content_type: tensors are taken and given as they are; 'np' is the same, 'pd' and 'str' are not read"
        )
    return found


def _typed(item: object) -> bool:
    return isinstance(item, dict) and bool((item.get("parameters") or {}).get("content_type"))


def _document(data: bytes, where: str) -> Mapping[str, Any]:
    if len(data) > SETTINGS_BYTES:
        raise BadPackage(f"{where} has {len(data)} bytes; at most {SETTINGS_BYTES} are read.", field=where)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadPackage(f"{where} is not JSON: {error}.", field=where) from error
    if not isinstance(document, dict):
        raise BadPackage(f"{where} is not a JSON object.", field=where)
    return document


def _bad(field: str, problem: str) -> BadPackage:
    return BadPackage(f"{SETTINGS_FILE}: `{field}` {problem}.", field=field)


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise _bad(key, "is not an object")
    return value


def _text(document: Mapping[str, Any], key: str, where: str = "") -> str:
    value = document.get(key) or ""
    field = f"{where}.{key}" if where else key
    if not isinstance(value, str) or len(value) > 1024:
        raise _bad(field, "is not text")
    if where and not value:
        raise _bad(field, "is missing")
    return value


def _whole(document: Mapping[str, Any], key: str) -> int:
    value = document.get(key) or 0
    if type(value) is not int or not 0 <= value <= 1 << 20:
        raise _bad(key, f"is {str(value)[:32]!r}; a whole number from 0 to {1 << 20} is needed")
    return value
