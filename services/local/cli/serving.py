"""irisloop serve and migrate: serving alone, on a model folder, with the options that Triton's users type."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from services.local.cli import serving_options as options
from services.local.cli.session import complain, console, show_json, wait_for
from services.local.cli.triton import settings_of, unknown_options
from services.local.errors import LocalError

MARKS: Final = {"as is": "[green]as is[/]", "with changes": "[yellow]changes[/]", "not served": "[red]not served[/]"}
NOTHING: Final = "not served"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
    app.command()(migrate)


def serve(
    context: typer.Context,
    model_repository: options.ModelRepository = None,
    model_control_mode: options.ModelControlMode = None,
    load_model: options.LoadModel = None,
    repository_poll_secs: options.RepositoryPollSecs = None,
    model_config_name: options.ModelConfigName = None,
    strict_readiness: options.StrictReadiness = None,
    strict_model_config: options.StrictModelConfig = None,
    disable_auto_complete_config: options.DisableAutoCompleteConfig = False,
    backend_config: options.BackendConfig = None,
    exit_on_error: options.ExitOnError = None,
    http_port: options.HttpPort = None,
    grpc_port: options.GrpcPort = None,
    metrics_port: options.MetricsPort = None,
    http_address: options.HttpAddress = None,
    grpc_address: options.GrpcAddress = None,
    metrics_address: options.MetricsAddress = None,
    allow_http: options.AllowHttp = None,
    allow_grpc: options.AllowGrpc = None,
    allow_metrics: options.AllowMetrics = None,
    allow_client_shm: options.AllowClientShm = None,
    http_max_input_size: options.HttpMaxInputSize = None,
    grpc_use_ssl: options.GrpcUseSsl = None,
    grpc_use_ssl_mutual: options.GrpcUseSslMutual = None,
    grpc_server_cert: options.GrpcServerCert = None,
    grpc_server_key: options.GrpcServerKey = None,
    grpc_root_cert: options.GrpcRootCert = None,
    grpc_restricted_protocol: options.GrpcRestrictedProtocol = None,
    http_restricted_api: options.HttpRestrictedApi = None,
    log_verbose: options.LogVerbose = None,
    transport: options.Transport = None,
    events: options.Events = False,
    free_ports: options.FreePorts = False,
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
    """Say of each model of a repository whether it is served here as it lies. Exit code 1 unless all are."""
    if kind not in ("triton", "mlserver"):
        raise LocalError(f"{kind!r} is neither triton nor mlserver.")
    report = wait_for(_serving("migrate").examine(kind, folder))
    if as_json:
        findings = [finding.as_json() for finding in report.findings]
        show_json({"served": report.served, "models": findings, "notes": list(report.notes)})
    else:
        _show(report, folder)
    raise typer.Exit(0 if report.served and report.findings else 1)


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
    start = f" Start them with: irisloop serve --model-repository {folder}" if served else ""
    console().print(f"{served} served, {refused} not.{start}", markup=False)


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
