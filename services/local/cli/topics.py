"""irisloop topics: what is declared, what is there, and who is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.common.errors import Unavailable
from services.local.cli.session import console, open_session, show_json, show_table, wait_for

if TYPE_CHECKING:
    from services.local.lag import GroupLag

app = typer.Typer(help="Kafka topics: create, list, and see who is behind.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("apply")
def apply_topics(
    cluster: Annotated[bool, typer.Option("--cluster", help="Partitions and replication of a cluster.")] = False,
) -> None:
    """Create the topics of proto/topics.yaml that are missing, and bring the settings of the others up to date."""
    from services.common.bus.topics import apply

    kafka = open_session().common().kafka
    work = apply(kafka, size="cluster", replication=3) if cluster else apply(kafka)
    applied = wait_for(work)
    for done, names in (("created", applied.created), ("changed the settings of", applied.changed)):
        for name in names:
            console().print(f"{done} {name}")
    for words in applied.warnings:
        console().print(f"[yellow]{words}; Irisloop never changes a topic's partitions[/]")
    console().print(f"{len(applied.created)} topics created." if applied.created else "All topics are there.")


@app.command("list")
def list_topics(as_json: AsJson = False) -> None:
    """List the declared topics: who says them, who hears them, how long they are kept."""
    from irisloop.topics import TOPICS

    rows = [
        {
            "topic": topic.name,
            "producer": topic.producer,
            "consumers": [f"{consumer.service}.{consumer.handler}" for consumer in topic.consumers],
            "key": topic.key,
            "keeps": "compacted" if topic.compacted else f"{topic.retention_ms // 3_600_000} h",
        }
        for topic in TOPICS
    ]
    if as_json:
        show_json(rows)
        return
    cells = [[", ".join(cell) if isinstance(cell, list) else cell for cell in row.values()] for row in rows]
    show_table(("topic", "producer", "consumers", "key", "keeps"), cells, "No topics.")


@app.command("lag")
def show_lag(as_json: AsJson = False) -> None:
    """Show how many messages each consumer has still to handle."""
    groups = wait_for(_read_lag())
    if as_json:
        show_json([{"service": g.service, "handler": g.handler, "topic": g.topic, "lag": g.lag} for g in groups])
        return
    show_table(
        ("consumer", "topic", "lag"), [(f"{g.service}.{g.handler}", g.topic, f"{g.lag:,}") for g in groups], "None."
    )


async def _read_lag() -> list[GroupLag]:
    from services.local.lag import LagReader

    settings = open_session().common()
    async with LagReader(settings.kafka.bootstrap_servers, settings) as reader:
        groups = await reader.by_group()
    if not groups:
        raise Unavailable(f"Kafka at {settings.kafka.bootstrap_servers} does not answer. Start it with `irisloop up`.")
    return groups
