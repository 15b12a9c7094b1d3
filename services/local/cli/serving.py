"""irisloop serve and migrate: serving alone, on a model folder, with the options that Triton's users type."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from services.local.cli.session import complain, console, show_json, wait_for
from services.local.cli.triton import settings_of, unknown_options
from services.local.errors import LocalError

MARKS: Final = {"as is": "[green]as is[/]", "with changes": "[yellow]changes[/]", "not served": "[red]not served[/]"}
NOTHING: Final = "not served"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
    app.command()(migrate)


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


def _flag(name: str, help: str) -> Any:
    return _option(name, help=help, metavar="true|false")


def serve(
    context: typer.Context,
    model_repository: Annotated[
        list[str] | None,
        _option("--model-repository", "--model-store", help="Folder of models, or s3://bucket/prefix.", metavar="DIR"),
    ] = None,
    model_control_mode: Annotated[
        str | None,
        _option(
            "--model-control-mode",
            help="Load all at the start, look again, or load when told.",
            metavar="none|poll|explicit",
        ),
    ] = None,
    load_model: Annotated[
        list[str] | None,
        _option(
            "--load-model", help="With explicit: load this one at the start; repeat it; '*' is all.", metavar="NAME"
        ),
    ] = None,
    repository_poll_secs: Annotated[
        int | None, _option("--repository-poll-secs", help="With poll: how often.", metavar="S")
    ] = None,
    model_config_name: Annotated[
        str | None, _option("--model-config-name", help="Prefer configs/<NAME>.pbtxt of a model.", metavar="NAME")
    ] = None,
    strict_readiness: Annotated[
        str | None, _flag("--strict-readiness", "Ready only when every model is; false here by default.")
    ] = None,
    strict_model_config: Annotated[
        str | None, _flag("--strict-model-config", "Refuse models whose config.pbtxt is not whole.")
    ] = None,
    disable_auto_complete_config: Annotated[
        bool, typer.Option("--disable-auto-complete-config", help="The same as --strict-model-config true.")
    ] = False,
    backend_config: Annotated[
        list[str] | None,
        _option(
            "--backend-config",
            help="default-max-batch-size=N counts; others have no effect.",
            metavar="[NAME,]KEY=VALUE",
        ),
    ] = None,
    exit_on_error: Annotated[str | None, _flag("--exit-on-error", "Stop when a model fails at the start.")] = None,
    http_port: Annotated[int | None, _option("--http-port", help="HTTP; 8000.", metavar="PORT")] = None,
    grpc_port: Annotated[int | None, _option("--grpc-port", help="gRPC; 8001.", metavar="PORT")] = None,
    metrics_port: Annotated[int | None, _option("--metrics-port", help="Metrics; 8002.", metavar="PORT")] = None,
    http_address: Annotated[
        str | None, _option("--http-address", help="Where to listen; one for all.", metavar="HOST")
    ] = None,
    grpc_address: Annotated[str | None, _option("--grpc-address", help="The same.", metavar="HOST")] = None,
    metrics_address: Annotated[str | None, _option("--metrics-address", help="The same.", metavar="HOST")] = None,
    allow_http: Annotated[str | None, _flag("--allow-http", "HTTP cannot be turned off: health is there.")] = None,
    allow_grpc: Annotated[str | None, _flag("--allow-grpc", "gRPC cannot be turned off.")] = None,
    allow_metrics: Annotated[str | None, _flag("--allow-metrics", "Whether the metrics port is opened.")] = None,
    allow_client_shm: Annotated[
        str | None, _flag("--allow-client-shm", "Whether clients may register shared memory.")
    ] = None,
    http_max_input_size: Annotated[
        int | None,
        _option("--http-max-input-size", help="Largest request in bytes, rounded up to MiB; gRPC's too.", metavar="N"),
    ] = None,
    grpc_use_ssl: Annotated[str | None, _flag("--grpc-use-ssl", "TLS on the gRPC port.")] = None,
    grpc_use_ssl_mutual: Annotated[
        str | None, _flag("--grpc-use-ssl-mutual", "Clients must show a certificate.")
    ] = None,
    grpc_server_cert: Annotated[
        str | None, _option("--grpc-server-cert", help="PEM of the server's certificate.", metavar="FILE")
    ] = None,
    grpc_server_key: Annotated[str | None, _option("--grpc-server-key", help="PEM of its key.", metavar="FILE")] = None,
    grpc_root_cert: Annotated[
        str | None, _option("--grpc-root-cert", help="PEM of the clients' authority.", metavar="FILE")
    ] = None,
    grpc_restricted_protocol: Annotated[
        list[str] | None,
        _option("--grpc-restricted-protocol", help="Which calls need a header.", metavar="API[,API...]:KEY=VALUE"),
    ] = None,
    http_restricted_api: Annotated[
        list[str] | None,
        _option("--http-restricted-api", help="Which calls need a header.", metavar="API[,API...]:KEY=VALUE"),
    ] = None,
    log_verbose: Annotated[int | None, _option("--log-verbose", help="1 and more: debug lines.", metavar="N")] = None,
    transport: Annotated[
        str | None, _option("--transport", help="grpcio by default; pygrpc has no TLS.", metavar="grpcio|pygrpc")
    ] = None,
    events: Annotated[
        bool, typer.Option("--events/--no-events", help="Calls become prediction events; needs Kafka and the registry.")
    ] = False,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take another port where one is in use.")] = False,
) -> None:
    """Serve a model folder of Triton's or MLServer's, until Ctrl-C. Triton's other options are named when given."""
    typed = {name: value for name, value in context.params.items() if name != "context"}
    for sentence in unknown_options(context.args):
        complain(sentence)
    settings = settings_of(typed)
    if free_ports:
        settings = _with_free_ports(settings)
    _run(settings)


def migrate(
    kind: Annotated[str, typer.Argument(metavar="triton|mlserver", help="Whose repository it is.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The repository: a folder, or s3://bucket/prefix.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say of each model of a repository whether it is served here as it lies. Exit code 1 when one is not."""
    if kind not in ("triton", "mlserver"):
        raise LocalError(f"{kind!r} is neither triton nor mlserver.")
    report = wait_for(_serving("migrate").examine(kind, folder))
    if as_json:
        findings = [finding.as_json() for finding in report.findings]
        show_json({"served": report.served, "models": findings, "notes": list(report.notes)})
    else:
        _show(report, folder)
    raise typer.Exit(0 if report.served else 1)


def _show(report: Any, folder: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not report.findings:
        console().print(f"{folder} holds no model.")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "served", "backend", "versions", "what changes, or why not"):
        table.add_column(column, overflow="fold")
    for finding in report.findings:
        versions = " ".join(map(str, finding.versions))
        reasons = "\n".join(escape(reason) for reason in finding.reasons)
        table.add_row(escape(finding.model), MARKS[finding.verdict], escape(finding.backend), versions, reasons)
    if report.findings:
        console().print(table)
    for note in report.notes:
        console().print(f"settings.json: {note}", markup=False)
    refused = sum(finding.verdict == NOTHING for finding in report.findings)
    served = len(report.findings) - refused
    console().print(
        f"{served} served, {refused} not. Start them with: irisloop serve --model-repository {folder}", markup=False
    )


def _serving(module: str) -> Any:
    """A module of serving, by name, as the supervisor starts services: the command line is built on none of them."""
    return import_module(f"services.serving.{module}")


def _with_free_ports(settings: Mapping[str, Any]) -> dict[str, Any]:
    from services.local.ports import free_port, is_free

    chosen = dict(settings)
    taken: set[int] = set()
    for name, usual in (("http_port", 8000), ("grpc_port", 8001), ("metrics_port", 8002)):
        port = chosen.get(name, usual)
        if port is not None and (port in taken or not is_free(port)):
            port = chosen[name] = free_port(taken)
        taken.add(port or 0)
    return chosen


def _run(settings: Mapping[str, Any]) -> None:
    """The service, in this very process; `main` ends it with the service's exit code."""
    from services.common.runtime import main

    known = _serving("settings").ServingSettings
    unknown = sorted(set(settings) - set(known.model_fields))
    if unknown:
        raise LocalError(f"Serving of this version has no setting {unknown[0]!r}.")
    main(lambda: _serving("app").build(known(**settings)))
