"""irisloop dlq: what no handler could take, with its reason and original bytes, and a second chance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.local.cli.session import console, open_session, show_json, show_table, wait_for
from services.local.errors import LocalError
from services.local.layout import SERVICES

if TYPE_CHECKING:
    from services.common.bus import KafkaBus
    from services.common.bus.deadletter import Letter

app = typer.Typer(help="Dead letters: list, show, replay.", no_args_is_help=True)
Topic = Annotated[str, typer.Option(help="Only letters of this origin topic.")]
Service = Annotated[str, typer.Option(help="Only letters of this service's handlers.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
PREVIEW_BYTES: Final = 64


@app.command("list")
def list_letters(topic: Topic = "", service: Service = "", as_json: AsJson = False) -> None:
    """List the letters that were not replayed, and how many there are of each reason."""
    from services.common.bus.deadletter import counts

    if service and service not in SERVICES:
        raise LocalError(f"There is no service {service!r}. Services: {', '.join(SERVICES)}.")
    found = wait_for(_letters(topic, service))
    if as_json:
        show_json([_view(letter) for letter in found])
        return
    rows = [
        (letter.id[:13], letter.topic, f"{letter.service}.{letter.handler}", letter.reason, letter.error[:60])
        for letter in found
    ]
    show_table(("id", "topic", "handler", "reason", "error"), rows, "No dead letters.")
    for (name, handler, reason), number in sorted(counts(found).items()):
        console().print(f"{number:>6,}  {reason} at {handler} on {name}")


@app.command("show")
def show_letter(
    letter_id: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    save: Annotated[Path | None, typer.Option(help="Write the original bytes into this file.")] = None,
) -> None:
    """Show one letter whole: where it came from, what was wrong, and its bytes."""
    letter = wait_for(_letter(letter_id))
    if save is not None:
        save.write_bytes(letter.record.value)
    view = _view(letter)
    headers = {name: value.decode(errors="replace") for name, value in letter.record.headers}
    shown = letter.record.value[:PREVIEW_BYTES]
    show_json(view | {"headers": headers, "begins_with_hex": shown.hex(" "), "begins_with": repr(shown)[2:-1]})


@app.command("replay")
def replay_letters(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids or their beginnings.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that --topic and --service select.")] = False,
    topic: Topic = "",
    service: Service = "",
) -> None:
    """Hand letters again to the handler that failed, and to no other."""
    if bool(letter_ids) == every:
        raise LocalError("Say which: ids as `irisloop dlq list` shows them, or --all (with --topic, --service).")
    number = wait_for(_replay(letter_ids or [], topic, service))
    console().print(f"{number} letters replayed.")


@asynccontextmanager
async def _bus() -> AsyncIterator[KafkaBus]:
    from services.common.bus import KafkaBus

    async with KafkaBus(open_session().common(), "local") as bus:
        yield bus


async def _letters(topic: str, service: str) -> list[Letter]:
    from services.common.bus.deadletter import letters

    async with _bus() as bus:
        return await letters(bus, topic, service)


async def _letter(letter_id: str) -> Letter:
    from services.common.bus.deadletter import find_letter

    async with _bus() as bus:
        return await find_letter(bus, letter_id)


async def _replay(letter_ids: list[str], topic: str, service: str) -> int:
    from services.common.bus.deadletter import find_letter, letters, replay

    async with _bus() as bus:
        chosen = [await find_letter(bus, one) for one in letter_ids] or await letters(bus, topic, service)
        return await replay(bus, chosen)


def _view(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "handler": f"{letter.service}.{letter.handler}",
        "reason": letter.reason,
        "error": letter.error,
        "key": (letter.record.key or b"").decode(errors="replace"),
        "bytes": len(letter.record.value),
    }
