"""An answer as what is compared: codes, classes of messages, tensors as values; not times, wordings or backends."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from inference import grpc_service_pb2 as pb

from tests.conformance.messages import class_of
from tests.conformance.tensors import decode, rounded

Record = dict[str, Any]
BACKEND_FIELDS: Final = (
    *("backend", "platform", "runtime", "default_model_filename", "optimization", "instance_group", "parameters"),
    "model_transaction_policy",
)
"""Of a configuration: what differs because the oracle runs Python models; `decoupled` is kept beside it."""
TRACER: Final = "trace_mode"
"""Which tracer is at work is each server's own affair."""
EXTRA_OUTPUT_PARAMETERS: Final = ("sequence_id", "sequence_start", "sequence_end")
"""Triton adds them to an ensemble's answers alone."""


def message_record(method: str, content: bytes) -> Record:
    """A response of a gRPC method."""
    if method == "ModelStreamInfer":
        streamed = pb.ModelStreamInferResponse.FromString(content)
        answer = _inference(streamed.infer_response)
        if not streamed.error_message:
            return {"answer": answer}
        text = streamed.error_message
        return {"message": class_of(text), "text": text, "answer": answer}
    response = getattr(pb, f"{method}Response").FromString(content)
    if method == "ModelInfer":
        return {"answer": _inference(response)}
    document = MessageToDict(response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return {"answer": _document(method, document)}


def http_record(path: str, status: int, headers: Mapping[str, str], content: bytes) -> Record:
    """A response of HTTP."""
    named = {name.lower(): value for name, value in headers.items()}
    encoding = named.get("content-encoding", "")
    record: Record = {"status": status} | ({"encoding": encoding} if encoding else {})
    body = _unpacked(encoding, content)
    length = int(named.get("inference-header-content-length", 0))
    if length:
        record["binary"] = True
    document = _json(body[:length] if length else body)
    if isinstance(document, dict) and set(document) == {"error"}:
        return record | {"message": class_of(str(document["error"])), "text": document["error"]}
    if document is None:
        return record | ({"body": body.decode("latin-1")} if body else {})
    return record | {"answer": _http_answer(path.partition("?")[0], document, body[length:] if length else b"")}


def _unpacked(encoding: str, content: bytes) -> bytes:
    unpack: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
    return unpack.get(encoding, bytes)(content)


def _json(content: bytes) -> Any:
    try:
        return json.loads(_decoded(content))
    except ValueError:
        return None


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        # Triton answers bytes that are no UTF-8 as they are, which is no JSON.
        return content.decode("latin-1")


def _http_answer(path: str, document: Any, tail: bytes) -> Any:
    if path.endswith("/infer"):
        return _http_inference(document, tail)
    if path.endswith("/config"):
        return _configuration(document)
    if path.endswith("/stats"):
        return _statistics(document)
    if path.endswith("/index"):
        return _index(document)
    if path == "/v2":
        return _server(document)
    if path.endswith("/trace/setting"):
        return _trace(document)
    return _metadata(document) if "/models/" in path else document


def _document(method: str, document: dict[str, Any]) -> Any:
    reduce: Mapping[str, Callable[[Any], Any]] = {
        "ServerMetadata": _server,
        "ModelMetadata": _metadata,
        "ModelConfig": lambda found: _configuration(found["config"]),
        "ModelStatistics": _statistics,
        "RepositoryIndex": lambda found: _index(found["models"]),
        "TraceSetting": lambda found: _trace(found["settings"]),
    }
    return reduce[method](document) if method in reduce else document


def _inference(response: pb.ModelInferResponse) -> Record:
    raws = list(response.raw_output_contents)
    outputs = [
        {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
            "values": decode(output.datatype, raws[place]) if place < len(raws) else None,
        }
        for place, output in enumerate(response.outputs)
    ]
    parameters = MessageToDict(response, preserving_proto_field_name=True).get("parameters", {})
    return _tensors(response.model_name, response.model_version, response.id, parameters, outputs)


def _http_inference(document: dict[str, Any], tail: bytes) -> Record:
    outputs, place = [], 0
    for output in document.get("outputs", []):
        size = output.get("parameters", {}).get("binary_data_size")
        values = rounded(output.get("data"))
        if size is not None:
            values = decode(output["datatype"], tail[place : place + size])
            place += size
        outputs.append(
            {"name": output["name"], "datatype": output["datatype"], "shape": output["shape"], "values": values}
        )
    parameters = document.get("parameters", {})
    names = (document.get("model_name", ""), document.get("model_version", ""), document.get("id", ""))
    return _tensors(*names, parameters, outputs)


def _tensors(model: str, version: str, id: str, parameters: Mapping[str, Any], outputs: list[Record]) -> Record:
    kept = {name: value for name, value in parameters.items() if name not in EXTRA_OUTPUT_PARAMETERS}
    # Neither the protocol nor Triton promises an order of the outputs.
    ordered = sorted(outputs, key=lambda output: str(output["name"]))
    record: Record = {"model": model, "version": version, "outputs": ordered}
    return record | ({"id": id} if id else {}) | ({"parameters": kept} if kept else {})


def _server(document: Mapping[str, Any]) -> Record:
    return {"name": document["name"], "extensions": sorted(document["extensions"])}


def _trace(settings: Mapping[str, Any]) -> Record:
    return {name: value for name, value in settings.items() if name != TRACER}


def _metadata(document: Mapping[str, Any]) -> Record:
    found = {name: value for name, value in document.items() if name != "platform"}
    for side in ("inputs", "outputs"):
        tensors = [{**tensor, "shape": [int(size) for size in tensor["shape"]]} for tensor in found.get(side, [])]
        found[side] = sorted(tensors, key=lambda tensor: str(tensor["name"]))
    return found


def _configuration(document: Mapping[str, Any]) -> Record:
    found = {name: value for name, value in document.items() if name not in BACKEND_FIELDS}
    found["decoupled"] = bool((document.get("model_transaction_policy") or {}).get("decoupled", False))
    reduced: Record = _without_defaults(found)
    for side in ("input", "output"):
        reduced[side] = sorted(reduced.get(side, []), key=lambda tensor: str(tensor["name"]))
    return reduced


def _without_defaults(value: Any) -> Any:
    """Defaults are written by one transport and left out by the other, 64-bit integers are text in one."""
    if isinstance(value, dict):
        found = {name: _without_defaults(inner) for name, inner in value.items()}
        return {
            name: inner
            for name, inner in found.items()
            if inner not in ("", 0, False, None, [], {}) and not _default(inner)
        }
    if isinstance(value, list):
        return [_without_defaults(inner) for inner in value]
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


def _default(value: Any) -> bool:
    defaults = (
        "FORMAT_NONE",
        "PRIORITY_DEFAULT",
        "MODEL_CONTROL_UNKNOWN",
        "TYPE_INVALID",
        "REJECT",
        "CONTROL_SEQUENCE_START",
    )
    return isinstance(value, str) and value in defaults


def _statistics(document: Mapping[str, Any]) -> list[Record]:
    return [
        {
            "name": model["name"],
            "version": str(model["version"]),
            "inferred": int(model.get("last_inference", 0)) > 0,
            "inference_count": int(model.get("inference_count", 0)),
            "execution_count": int(model.get("execution_count", 0)),
            "inference_stats": _durations(model.get("inference_stats", {})),
            "batch_stats": [
                {"batch_size": int(batch["batch_size"]), **_durations(batch)} for batch in model.get("batch_stats", [])
            ],
        }
        for model in document["model_stats"]
    ]


def _durations(stages: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(stage.get("count", 0)) for name, stage in sorted(stages.items()) if isinstance(stage, dict)}


def _index(models: list[dict[str, str]]) -> list[Record]:
    ordered = sorted(models, key=lambda model: (model["name"], model.get("version", "")))
    return [
        {
            "name": model["name"],
            "version": model.get("version", ""),
            "state": model.get("state", ""),
            "reason": bool(model.get("reason")),
        }
        for model in ordered
        # Another case may have unloaded it a moment ago; its own cases ask for its state.
        if model["name"] != "controlled"
    ]
