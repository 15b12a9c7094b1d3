"""The options of `irisloop serve`, as Triton's users type them, each with its help."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


def _flag(name: str, help: str) -> Any:
    return _option(name, help=help, metavar="true|false")


ModelRepository = Annotated[
    list[str] | None,
    _option("--model-repository", "--model-store", help="Folder of models, or s3://bucket/prefix.", metavar="DIR"),
]
ModelControlMode = Annotated[
    str | None,
    _option(
        "--model-control-mode",
        help="Load all at the start, look again, or load when told.",
        metavar="none|poll|explicit",
    ),
]
LoadModel = Annotated[
    list[str] | None,
    _option("--load-model", help="With explicit: load this one at the start; repeat it; '*' is all.", metavar="NAME"),
]
RepositoryPollSecs = Annotated[int | None, _option("--repository-poll-secs", help="With poll: how often.", metavar="S")]
ModelConfigName = Annotated[
    str | None, _option("--model-config-name", help="Prefer configs/<NAME>.pbtxt of a model.", metavar="NAME")
]
StrictReadiness = Annotated[
    str | None, _flag("--strict-readiness", "Ready only when every model is; false here by default.")
]
StrictModelConfig = Annotated[
    str | None, _flag("--strict-model-config", "Refuse models whose config.pbtxt is not whole.")
]
DisableAutoCompleteConfig = Annotated[
    bool, typer.Option("--disable-auto-complete-config", help="The same as --strict-model-config true.")
]
BackendConfig = Annotated[
    list[str] | None,
    _option(
        "--backend-config", help="default-max-batch-size=N counts; others have no effect.", metavar="[NAME,]KEY=VALUE"
    ),
]
ExitOnError = Annotated[str | None, _flag("--exit-on-error", "Stop when a model fails at the start.")]
HttpPort = Annotated[int | None, _option("--http-port", help="HTTP; 8000.", metavar="PORT")]
GrpcPort = Annotated[int | None, _option("--grpc-port", help="gRPC; 8001.", metavar="PORT")]
MetricsPort = Annotated[int | None, _option("--metrics-port", help="Metrics; 8002.", metavar="PORT")]
HttpAddress = Annotated[str | None, _option("--http-address", help="Where to listen; one for all.", metavar="HOST")]
GrpcAddress = Annotated[str | None, _option("--grpc-address", help="The same.", metavar="HOST")]
MetricsAddress = Annotated[str | None, _option("--metrics-address", help="The same.", metavar="HOST")]
AllowHttp = Annotated[str | None, _flag("--allow-http", "HTTP cannot be turned off: health is there.")]
AllowGrpc = Annotated[str | None, _flag("--allow-grpc", "gRPC cannot be turned off.")]
AllowMetrics = Annotated[str | None, _flag("--allow-metrics", "Whether the metrics port is opened.")]
AllowClientShm = Annotated[str | None, _flag("--allow-client-shm", "Whether clients may register shared memory.")]
HttpMaxInputSize = Annotated[
    int | None,
    _option("--http-max-input-size", help="Largest request in bytes, rounded up to MiB; gRPC's too.", metavar="N"),
]
GrpcUseSsl = Annotated[str | None, _flag("--grpc-use-ssl", "TLS on the gRPC port.")]
GrpcUseSslMutual = Annotated[str | None, _flag("--grpc-use-ssl-mutual", "Clients must show a certificate.")]
GrpcServerCert = Annotated[
    str | None, _option("--grpc-server-cert", help="PEM of the server's certificate.", metavar="FILE")
]
GrpcServerKey = Annotated[str | None, _option("--grpc-server-key", help="PEM of its key.", metavar="FILE")]
GrpcRootCert = Annotated[str | None, _option("--grpc-root-cert", help="PEM of the clients' authority.", metavar="FILE")]
GrpcRestrictedProtocol = Annotated[
    list[str] | None,
    _option("--grpc-restricted-protocol", help="Which calls need a header.", metavar="API[,API...]:KEY=VALUE"),
]
HttpRestrictedApi = Annotated[
    list[str] | None,
    _option("--http-restricted-api", help="Which calls need a header.", metavar="API[,API...]:KEY=VALUE"),
]
LogVerbose = Annotated[int | None, _option("--log-verbose", help="1 and more: debug lines.", metavar="N")]
Transport = Annotated[
    str | None, _option("--transport", help="grpcio by default; pygrpc has no TLS.", metavar="grpcio|pygrpc")
]
Events = Annotated[
    bool, typer.Option("--events/--no-events", help="Calls become prediction events; needs Kafka and the registry.")
]
FreePorts = Annotated[bool, typer.Option("--free-ports", help="Take another port where one is in use.")]
