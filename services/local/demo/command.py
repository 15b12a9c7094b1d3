"""`irisloop demo`: options, the deployment around the director, the report at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from services.common.settings import CommonSettings
from services.local.data import Dataset, DataSettings, fetch, load
from services.local.demo.director import Director, running
from services.local.demo.narrator import Narrator, table
from services.local.demo.plot import draw as draw_plot
from services.local.demo.report import Facts, broken_promises, document
from services.local.demo.scenario import Family, draw, fog_contrast
from services.local.errors import LocalError
from services.local.jars import KAFKA_VERSION
from services.local.settings import LocalSettings
from services.local.state import HomeLock
from services.local.supervisor import Supervisor

RATE: Final = 60.0
READY_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for."""

    family: Family
    chaos: bool
    keep: bool
    seed: int
    report: Path | None
    rate: float


def main(arguments: Sequence[str]) -> None:
    """Parse, run, exit: 0 when every promise was kept."""
    typer.main.get_command(_application())(args=list(arguments), prog_name="irisloop demo")


def _application() -> typer.Typer:
    application = typer.Typer(add_completion=False)

    @application.command()
    def demo(
        scenario: Annotated[Family, typer.Option(help="What happens to the cameras' picture.")] = Family.FOG,
        chaos: Annotated[bool, typer.Option("--chaos", help="Kill each service and Kafka once, in mid-work.")] = False,
        keep: Annotated[
            bool, typer.Option("--keep", help="Leave everything running at the end, until Ctrl-C.")
        ] = False,
        seed: Annotated[int, typer.Option(min=0, help="Draws images, cameras, classes and the first model.")] = 1,
        report: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
        rate: Annotated[float, typer.Option(min=1.0, help="Frames a second, all cameras together.")] = RATE,
    ) -> None:
        """Run the whole loop on real images: import, train, serve, drift, detect, retrain, recover."""
        options = Options(scenario, chaos, keep, seed, report, rate)
        raise typer.Exit(asyncio.run(_run(options)))

    return application


async def _run(options: Options) -> int:
    console = Console()
    narrator = Narrator(console)
    data = await asyncio.to_thread(_images, narrator)
    settings = _settings()
    _clear(settings)
    began = time.monotonic()
    log = settings.home / "demo.log"
    with log.open("w", encoding="utf-8") as lines:
        supervisor = Supervisor(
            settings, free_ports=True, say=lambda name, line: print(f"{name:9} | {line}", file=lines, flush=True)
        )
        async with supervisor:
            narrator.act("starting Kafka and six services")
            ready = await supervisor.wait_ready(READY_S)
            narrator.say(f"ready after {ready:.1f} s; logs in {log}")
            facts = await _play(options, supervisor, data, narrator, ready, began)
            code = _conclude(options, facts, settings, console)
            if options.keep:
                await _stay(narrator, supervisor)
    return code


def _images(narrator: Narrator) -> Dataset:
    chosen = DataSettings()
    fetch(chosen.folder, chosen.data, say=narrator.say)
    return load(chosen.folder, chosen.data)


def _settings() -> LocalSettings:
    """The user's, in a home of the demo's own."""
    common = CommonSettings()
    return LocalSettings(common=common.model_copy(update={"home": common.home.expanduser().absolute() / "demo"}))


def _clear(settings: LocalSettings) -> None:
    """Begin with nothing; refuses to touch a demo that is running. Raises `LocalError`."""
    if not settings.home.exists():
        settings.home.mkdir(parents=True)
        return
    with HomeLock(settings.run_folder):
        for place in settings.home.iterdir():
            if place != settings.run_folder:
                shutil.rmtree(place) if place.is_dir() else place.unlink()


async def _play(
    options: Options, supervisor: Supervisor, data: Dataset, narrator: Narrator, ready: float, began: float
) -> Facts:
    """All acts, with the status line kept true beside them."""
    director = Director(
        deployment=supervisor,
        scenario=draw(options.family, options.seed, len(data.class_names), fog_contrast(data.name)),
        seed=options.seed,
        images=data.images,
        labels=data.labels,
        class_names=list(data.class_names),
        data_name=data.name,
        chaos=options.chaos,
        rate=options.rate,
        narrator=narrator,
    )
    try:
        async with running(narrator.follow(director)):
            facts = await director.run()
    except TimeoutError as error:
        raise LocalError(f"The demo stopped: {error}. Logs: {supervisor.settings.log_folder}.") from error
    facts.kafka = {"version": KAFKA_VERSION, "embedded": not supervisor.settings.own_kafka}
    facts.seconds = {"ready": ready, **facts.seconds, "total": time.monotonic() - began}
    return facts


def _conclude(options: Options, facts: Facts, settings: LocalSettings, console: Console) -> int:
    facts.plot = str(draw_plot(facts, settings.home / f"demo-{options.family.value}-{options.seed}.png"))
    report: dict[str, Any] = document(facts)
    broken = broken_promises(facts)
    console.print(table(facts, report, broken))
    console.print(f"plot: {facts.plot}", highlight=False)
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        console.print(f"report: {options.report}", highlight=False)
    return 1 if broken else 0


async def _stay(narrator: Narrator, supervisor: Supervisor) -> None:
    narrator.act(
        f"still running: Kafka at {supervisor.bootstrap_servers}, ingest at {supervisor.url('ingest')}; Ctrl-C ends"
    )
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
