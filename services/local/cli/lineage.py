"""irisloop lineage: where a prediction, model, run, dataset or frame comes from, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.local.cli.session import console, open_session, show_json, wait_for

if TYPE_CHECKING:
    from rich.tree import Tree

    from services.local.lineage import Node


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lineage")(lineage)


def lineage(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="An asset, prediction or run id, MODEL/VERSION, DATASET/VERSION, or a camera."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Walk from a thing to what it came from, and to what came of it."""
    from services.local.lineage import trace

    found = wait_for(trace(open_session(), subject))
    if as_json:
        show_json(found.as_json())
        return
    console().print(_tree(found))


def _tree(node: Node) -> Tree:
    from rich.markup import escape
    from rich.tree import Tree

    tree = Tree(_label(node))
    waiting = [(tree, node)]
    while waiting:
        branch, parent = waiting.pop()
        for child in parent.children:
            relation = escape(f"{child.relation}: ") if child.relation else ""
            waiting.append((branch.add(relation + _label(child)), child))
    return tree


def _label(node: Node) -> str:
    from rich.markup import escape

    return f"[bold]{node.kind}[/] {escape(node.name)}" + (f"  [dim]{escape(node.detail)}[/]" if node.detail else "")
