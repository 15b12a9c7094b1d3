"""Commands about the deployment itself: up, status, doctor, logs, demo."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from services.local.cli.session import console, open_session, show_json, wait_for
from services.local.errors import LocalError
from services.local.layout import SERVICES

FOLLOW_S: Final = 0.2


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, status, doctor, logs):
        app.command()(command)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)(
        demo
    )


def up(
    only: Annotated[str, typer.Option(help="Start these services only: a,b.")] = "",
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take another port where one is in use.")] = False,
    no_table: Annotated[bool, typer.Option("--no-table", help="Print log lines instead of a live table.")] = False,
    replicas: Annotated[list[str] | None, typer.Option(help="SERVICE=N: run N replicas of a service.")] = None,
) -> None:
    """Start Kafka and the services here, and keep them running until Ctrl-C."""
    from services.local.cli.foreground import run_in_foreground

    chosen = _services(only)
    table = sys.stdout.isatty() and not no_table
    settings = open_session().settings
    wait_for(run_in_foreground(settings, chosen, _replicas(replicas or []), free_ports=free_ports, table=table))


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs here, on which ports, and what it waits for. Exit code 1 unless everything is ready."""
    from services.local.cli.table import process_table

    state = open_session().state
    if as_json:
        show_json(state.as_json())
    elif not state.running:
        console().print(f"Nothing runs on {state.home}. Start it with `irisloop up`.")
    else:
        console().print(process_table(state))
        console().print(f"Kafka at {state.bootstrap_servers}, home {state.home}, supervisor {state.supervisor_pid}")
    raise typer.Exit(0 if state.ready else 1)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Check this machine: what is missing, and how to get it. Exit code 1 when something needed is missing."""
    from services.local.doctor import examine

    session = open_session()
    findings = examine(session.settings, session.state)
    if as_json:
        show_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            mark = (
                "[green]ok[/]     " if finding.good else "[red]missing[/]" if finding.needed else "[yellow]note[/]   "
            )
            console().print(f"{mark} {finding.subject:<10} {finding.text}")
    raise typer.Exit(1 if any(finding.needed and not finding.good for finding in findings) else 0)


def logs(
    service: Annotated[str, typer.Argument(help="ingest, labeling, trainer, registry, serving, monitor or kafka.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    raw: Annotated[bool, typer.Option("--raw", help="As written, JSON and all.")] = False,
) -> None:
    """Show the log of one process."""
    from services.local.logs import LogFile, readable

    folder = open_session().settings.log_folder
    file = folder / f"{service}.log"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none yet"
        raise LocalError(f"There is no log of {service} in {folder}. Logs: {there}.")
    for line in _tail(file, lines):
        typer.echo(line if raw else readable(line))
    log = LogFile(file, max_bytes=0)
    log.skip()
    while follow:
        for line in log.new_lines():
            typer.echo(line if raw else readable(line))
        time.sleep(FOLLOW_S)


def demo(context: typer.Context) -> None:
    """Run the whole loop on real images and watch it mend itself; `irisloop demo --help` lists the scenarios."""
    from services.local.demo.command import main

    main(context.args)


def _tail(file: Path, count: int) -> list[str]:
    from collections import deque

    with file.open(errors="replace") as stream:
        return [line.rstrip("\n") for line in deque(stream, count)]


def _services(only: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in only.split(",") if name.strip()) or SERVICES
    unknown = [name for name in names if name not in SERVICES]
    if unknown:
        raise LocalError(f"There is no service {unknown[0]!r}. Services: {', '.join(SERVICES)}.")
    return names


def _replicas(pairs: list[str]) -> dict[str, int]:
    replicas = {}
    for pair in pairs:
        name, _, count = pair.partition("=")
        if name not in SERVICES or not count.isdigit() or not 1 <= int(count) <= 16:
            raise LocalError(f"--replicas {pair} is not SERVICE=N with N from 1 to 16, as in serving=2.")
        replicas[name] = int(count)
    return replicas
