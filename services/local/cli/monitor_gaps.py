"""irisloop monitor gaps: records that retention removed unread, and going on without them."""

from __future__ import annotations

from datetime import UTC, datetime
from getpass import getuser
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from services.local.cli.session import console, open_session, show_json, show_table, wait_for
from services.local.errors import LocalError

_FIELDS: Final = ("topic", "partition", "wanted", "oldest", "missing")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gaps")(gaps)


def gaps(
    accept: Annotated[bool, typer.Option("--accept", help="Go on without these records.")] = False,
    why: Annotated[str, typer.Option(help="Why; kept in the history. Needed to accept.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show which records retention removed before the monitor read them; with --accept, let it go on without them.

    Nothing need be stopped. Exit code 1 while something is missing.
    """
    if accept and not why.strip():
        raise LocalError("--accept needs --why: the reason stands in the history.")
    module: Any = import_module("services.monitor.gaps")
    kafka = open_session().common().kafka
    found = wait_for(module.gaps_of(kafka, {**module.JUDGE, **module.ANALYTICS}))
    lines = [(handler, gap) for handler, gaps in found.items() for gap in gaps]
    if as_json:
        show_json([{"handler": h, **{n: getattr(g, n) for n in _FIELDS}} for h, g in lines])
    else:
        rows = [(handler, *(str(getattr(gap, name)) for name in _FIELDS)) for handler, gap in lines]
        show_table(("handler", *_FIELDS), rows, "No record is missing.")
    if accept and found:
        wait_for(module.accept(kafka, found, getuser(), why, datetime.now(UTC)))
        console().print("The monitor goes on without them.", markup=False)
    elif found:
        raise typer.Exit(1)
