"""Triton's options in Irisloop's settings: which count, which have no effect here, and which cannot be honoured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.local.errors import LocalError

TRUE: Final = ("true", "on", "1")
FALSE: Final = ("false", "off", "0")
CONTROLS: Final = ("none", "poll", "explicit")
TRANSPORTS: Final = ("grpcio", "pygrpc")
MIB: Final = 1 << 20
MOST_MB: Final = 2047
"""gRPC's own bound."""
DEFAULT_BATCH: Final = "default-max-batch-size"
NO_GPU: Final = "models run on the CPU"
NO_CACHE: Final = "answers are not cached: each one is computed and becomes an event"
THREADS: Final = "the event loop serves all connections"
TRACING: Final = "spans go to IRISLOOP_OTLP_ENDPOINT"
NO_EFFECT: Final = {
    "id": "the server's name is triton, as clients expect",
    "exit-timeout-secs": "calls in hand have ten seconds to end",
    "model-load-thread-count": "models load beside each other by themselves",
    "model-load-retry-count": "poll looks again by itself",
    "enable-peer-access": NO_GPU,
    "http-thread-count": THREADS,
    "http-header-forward-pattern": "headers stay with the transport",
    "grpc-header-forward-pattern": "metadata stays with the transport",
    "grpc-infer-thread-count": THREADS,
    "grpc-infer-allocation-pool-size": THREADS,
    "grpc-max-response-pool-size": THREADS,
    "grpc-infer-response-compression-level": "answers are compressed as the client asks",
    "grpc-keepalive-time": "gRPC's own keep-alive holds",
    "grpc-keepalive-timeout": "gRPC's own keep-alive holds",
    "grpc-keepalive-permit-without-calls": "gRPC's own keep-alive holds",
    "grpc-http2-max-pings-without-data": "gRPC's own keep-alive holds",
    "grpc-http2-min-recv-ping-interval-without-data": "gRPC's own keep-alive holds",
    "grpc-http2-max-ping-strikes": "gRPC's own keep-alive holds",
    "grpc-max-connection-age": "connections live until one side closes them",
    "grpc-max-connection-age-grace": "connections live until one side closes them",
    "log-info": "give IRISLOOP_LOG_LEVEL",
    "log-warning": "give IRISLOOP_LOG_LEVEL",
    "log-error": "give IRISLOOP_LOG_LEVEL",
    "log-format": "give IRISLOOP_LOG_FORMAT",
    "log-file": "lines go to the standard output",
    "allow-gpu-metrics": NO_GPU,
    "allow-cpu-metrics": "they are always there",
    "metrics-interval-ms": "metrics are read when they are asked for",
    "metrics-config": "histograms have Irisloop's buckets",
    "trace-config": TRACING,
    "trace-file": TRACING,
    "trace-level": TRACING,
    "trace-rate": TRACING,
    "trace-count": TRACING,
    "trace-log-frequency": TRACING,
    "cache-config": NO_CACHE,
    "cache-directory": NO_CACHE,
    "response-cache-byte-size": NO_CACHE,
    "rate-limit": "models share the machine fairly",
    "rate-limit-resource": "models share the machine fairly",
    "pinned-memory-pool-byte-size": NO_GPU,
    "cuda-memory-pool-byte-size": NO_GPU,
    "cuda-virtual-address-size": NO_GPU,
    "min-supported-compute-capability": NO_GPU,
    "model-load-gpu-limit": NO_GPU,
    "buffer-manager-thread-count": "tensors are not copied between pools",
    "host-policy": "the system places threads",
    "backend-directory": "backends are part of this process",
    "repoagent-directory": "repository agents are not run, and a model that names one is refused",
    "sagemaker-port": "there is no SageMaker endpoint",
    "sagemaker-safe-port-range": "there is no SageMaker endpoint",
    "sagemaker-thread-count": "there is no SageMaker endpoint",
    "vertex-ai-port": "there is no Vertex AI endpoint",
    "vertex-ai-thread-count": "there is no Vertex AI endpoint",
    "vertex-ai-default-model": "there is no Vertex AI endpoint",
}
"""Options whose absence changes no answer: said and passed over."""
OFF_ONLY: Final = {
    "allow-sagemaker": "there is no SageMaker endpoint",
    "allow-vertex-ai": "there is no Vertex AI endpoint",
    "reuse-http-port": "a port belongs to one server",
    "reuse-grpc-port": "a port belongs to one server",
    "model-namespacing": "one repository is served, and names are unique in it",
}
"""Options that may be given as false only."""


def unknown_options(words: Sequence[str]) -> list[str]:
    """Sentences about Triton's options that have no effect. Raises `LocalError` for what cannot be honoured."""
    found = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise LocalError(f"{word!r} is no option of `irisloop serve`; see `irisloop serve --help`.")
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        found += _said(name, value)
    return found


def _said(name: str, value: str) -> list[str]:
    if name in OFF_ONLY:
        if boolean(f"--{name}", value or "true"):
            raise LocalError(f"--{name} cannot be honoured: {OFF_ONLY[name]}. Leave it out.")
        return []
    if name not in NO_EFFECT:
        raise LocalError(f"--{name} is not an option of `irisloop serve`, nor one of Triton's; see --help.")
    return [f"--{name} has no effect: {NO_EFFECT[name]}."]


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Serving's settings from the options, by their names with underscores; None and () are options not given.

    Only what was given is in the answer, so that the environment counts for the rest. Raises `LocalError`.
    """
    given = {name: value for name, value in options.items() if value not in (None, (), [])}
    settings: dict[str, Any] = {"model_repository": _repository(given), **_models(given)}
    settings["standalone"] = not given.get("events")
    settings["direct_events"] = bool(given.get("events"))
    settings |= _ports(given)
    settings |= _tls(given)
    settings |= _limits(given)
    settings |= _transport(given, tls="tls_certificate" in settings)
    if given.get("log_verbose", 0) > 0:
        settings["common"] = {"log_level": "DEBUG"}
    return settings


def boolean(option: str, value: str) -> bool:
    """As Triton reads one. Raises `LocalError`."""
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise LocalError(f"{option} is {value!r}; true or false is needed.")


def _boolean(given: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = given.get(name)
    return default if value is None else boolean(f"--{name.replace('_', '-')}", value)


def _repository(given: Mapping[str, Any]) -> str:
    folders = given.get("model_repository", ())
    if not folders:
        raise LocalError("Say which models: --model-repository DIR.")
    if len(folders) > 1:
        raise LocalError("--model-repository is given twice; one is served. Put the models into one folder.")
    return str(folders[0])


def _models(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    control = given.get("model_control_mode")
    if control not in (None, *CONTROLS):
        raise LocalError(f"--model-control-mode is {control!r}; one of {', '.join(CONTROLS)} is needed.")
    if control is not None:
        found["model_control"] = control
    if "load_model" in given:
        if control != "explicit":
            raise LocalError("--load-model needs --model-control-mode explicit.")
        found["load_models"] = tuple(given["load_model"])
    if "repository_poll_secs" in given:
        found["poll_s"] = _positive(given["repository_poll_secs"], "--repository-poll-secs")
    if "model_config_name" in given:
        found["model_config_name"] = given["model_config_name"]
    for name, field in (("strict_readiness", "strict_readiness"), ("exit_on_error", "exit_on_error")):
        if name in given:
            found[field] = _boolean(given, name, default=False)
    strict = _boolean(given, "strict_model_config", default=False)
    if strict or given.get("disable_auto_complete_config") or "strict_model_config" in given:
        found["strict_config"] = strict or bool(given.get("disable_auto_complete_config"))
    for pair in given.get("backend_config", ()):
        key, _, value = pair.rpartition(",")[2].partition("=")
        if key == DEFAULT_BATCH:
            found["default_max_batch"] = _whole(value, f"--backend-config {DEFAULT_BATCH}")
    return found


def _ports(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("http_port", "grpc_port", "metrics_port"):
        if name in given:
            found[name] = given[name]
    hosts = sorted({given[name] for name in ("http_address", "grpc_address", "metrics_address") if name in given})
    if len(hosts) > 1:
        raise LocalError(f"The addresses {' and '.join(hosts)} differ; all ports listen on one.")
    if hosts:
        found["host"] = hosts[0]
    for name in ("allow_http", "allow_grpc"):
        if not _boolean(given, name, default=True):
            raise LocalError(f"--{name.replace('_', '-')} false cannot be honoured: both are always served.")
    if not _boolean(given, "allow_metrics", default=True):
        found["metrics_port"] = None
    return found


def _tls(given: Mapping[str, Any]) -> dict[str, Any]:
    """Files are checked here, since a server that starts without its TLS would be worse than none."""
    files = {
        field: given[name]
        for name, field in (
            ("grpc_server_cert", "tls_certificate"),
            ("grpc_server_key", "tls_key"),
            ("grpc_root_cert", "tls_client_ca"),
        )
        if name in given
    }
    mutual = _boolean(given, "grpc_use_ssl_mutual", default=False)
    if not _boolean(given, "grpc_use_ssl", default=False) and not mutual:
        if files:
            raise LocalError("Certificates are given, but not --grpc-use-ssl true.")
        return {}
    for field, option in (("tls_certificate", "--grpc-server-cert"), ("tls_key", "--grpc-server-key")):
        if field not in files:
            raise LocalError(f"TLS needs {option}.")
    if mutual and "tls_client_ca" not in files:
        raise LocalError("--grpc-use-ssl-mutual needs --grpc-root-cert.")
    if not mutual:
        files.pop("tls_client_ca", None)
    missing = [path for path in files.values() if not Path(path).is_file()]
    if missing:
        raise LocalError(f"{missing[0]} is no file.")
    return {field: Path(path) for field, path in files.items()}


def _limits(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "http_max_input_size" in given:
        size = _positive(given["http_max_input_size"], "--http-max-input-size")
        found["max_request_mb"] = min(-(-size // MIB), MOST_MB)
    if "allow_client_shm" in given:
        found["shared_memory"] = _boolean(given, "allow_client_shm", default=True)
    for name, field in (("grpc_restricted_protocol", "grpc_restricted"), ("http_restricted_api", "http_restricted")):
        if name in given:
            found[field] = tuple(_restriction(rule, name) for rule in given[name])
    return found


def _restriction(rule: str, name: str) -> str:
    apis, colon, header = rule.partition(":")
    key, equals, _ = header.partition("=")
    if not (apis and colon and key and equals):
        raise LocalError(f"--{name.replace('_', '-')} {rule!r} is not API[,API...]:KEY=VALUE.")
    return rule


def _transport(given: Mapping[str, Any], *, tls: bool) -> dict[str, Any]:
    transport = given.get("transport")
    if transport is None:
        return {}
    if transport not in TRANSPORTS:
        raise LocalError(f"--transport is {transport!r}; one of {', '.join(TRANSPORTS)} is needed.")
    if transport == "pygrpc" and tls:
        raise LocalError("--transport pygrpc has no TLS: end TLS in front of it, or leave --transport out.")
    return {"transport": transport}


def _positive(value: int, option: str) -> int:
    if value < 1:
        raise LocalError(f"{option} is {value}; a whole number above 0 is needed.")
    return value


def _whole(value: str, option: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 7):
        raise LocalError(f"{option} is {value!r}; a whole number is needed.")
    return int(value)
