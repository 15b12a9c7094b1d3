"""The table of processes: live under `irisloop up`, once for `irisloop status`."""

from __future__ import annotations

from rich.table import Table

from services.local.state import DeploymentState, ProcessState

COLOURS = {"ready": "green", "waiting": "yellow", "starting": "yellow", "stopping": "yellow", "restarting": "red"}


def process_table(state: DeploymentState) -> Table:
    """A row a process, in the order in which they were started."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("process", "state", "pid", "http", "grpc", "memory", "lag", "restarts", "waits for"):
        right = column in ("pid", "http", "grpc", "memory", "lag", "restarts")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "waits for")
    for process in state.processes.values():
        table.add_row(*_cells(process, state))
    memory = sum(process.pss_mb for process in state.processes.values())
    table.add_row("", "", "", "", "", f"{memory:,.0f} MB" if memory else "", "", "", "", style="dim")
    return table


def _cells(process: ProcessState, state: DeploymentState) -> list[str]:
    port = state.bootstrap_servers.rpartition(":")[2] if process.name == "kafka" else str(process.grpc_port or "")
    return [
        process.name,
        f"[{COLOURS.get(process.state, 'dim')}]{process.state}[/]",
        str(process.pid or ""),
        str(process.http_port or ""),
        port,
        f"{process.pss_mb:,.0f} MB" if process.pss_mb else "",
        "" if process.lag is None else f"{process.lag:,}",
        str(process.restarts or ""),
        process.waiting_for.replace("[", "\\["),
    ]
