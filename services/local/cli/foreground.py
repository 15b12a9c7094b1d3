"""`irisloop up` at work: one foreground process with a live table or prefixed log lines, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from services.local.cli.session import console
from services.local.logs import is_severe
from services.local.supervisor import Supervisor

if TYPE_CHECKING:
    from rich.console import Console

    from services.local.settings import LocalSettings

COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")
OWN: Final = "irisloop"
TABLE_S: Final = 0.5
NAME_WIDTH: Final = 9


async def run_in_foreground(
    settings: LocalSettings, only: Sequence[str], replicas: Mapping[str, int], *, free_ports: bool, table: bool
) -> None:
    """Start, show, and stop at the first SIGINT or SIGTERM; the second one ends everything at once."""
    out = console()
    printer = Printer(out, everything=not table)
    supervisor = Supervisor(settings, only=only, replicas=replicas, free_ports=free_ports, say=printer.say)
    stop = asyncio.Event()
    _on_signals(stop, supervisor)
    async with supervisor:
        if table:
            await _show_table(supervisor, stop, out)
        else:
            await stop.wait()
        printer.say(OWN, "stopping; once more Ctrl-C kills at once")


class Printer:
    """Prints log lines under the name of their process; only warnings and worse beside a table."""

    def __init__(self, out: Console, *, everything: bool) -> None:
        """`everything` is False while a table shows the state."""
        self._out = out
        self._everything = everything
        self._colours: dict[str, str] = {}

    def say(self, name: str, line: str) -> None:
        """One line."""
        if not self._everything and not (name == OWN or is_severe(line)):
            return
        from rich.text import Text

        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        text = Text(f"{name:<{NAME_WIDTH}} | ", style="bold" if name == OWN else colour)
        self._out.print(text.append(line, style="default not bold"))


async def _show_table(supervisor: Supervisor, stop: asyncio.Event, out: Console) -> None:
    from rich.live import Live

    from services.local.cli.table import process_table

    with Live(process_table(supervisor.state), console=out, auto_refresh=False) as live:
        while not stop.is_set():
            live.update(process_table(supervisor.state), refresh=True)
            try:
                await asyncio.wait_for(stop.wait(), TABLE_S)
            except TimeoutError:
                continue


def _on_signals(stop: asyncio.Event, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            supervisor.kill_now()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told)
