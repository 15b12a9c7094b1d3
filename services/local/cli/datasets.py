"""Commands that make datasets and models: import, train."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.local.cli.session import Session, console, open_session, wait_for
from services.local.errors import LocalError

if TYPE_CHECKING:
    from services.local.importing import ImportReport
    from services.local.labelled import LabelledFolder

POLL_S: Final = 0.5
START_S: Final = 120.0
"""A dataset version may have to be cut first."""
JUDGED_S: Final = 15.0


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_folder)
    app.command("train")(train)


def import_folder(
    folder: Annotated[Path, typer.Argument(help="Images; without --labels its folders name the classes.")],
    name: Annotated[
        str, typer.Option(help="Name of the import; the camera is import/NAME. The folder's when empty.")
    ] = "",
    dataset: Annotated[str, typer.Option(help="Dataset that takes the labels; NAME when empty.")] = "",
    labels: Annotated[Path | None, typer.Option(help="A CSV of path,label or a COCO .json.")] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="Cameras of the dataset when it is made, with * and ?; all when not given.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Take this many images; 0 takes all.")] = 0,
) -> None:
    """Import a folder of images with their labels. Running it again adds only what is new."""
    from services.local.labelled import read_folder

    chosen = name or folder.resolve().name
    found = read_folder(folder, labels, limit)
    began = time.monotonic()
    report = wait_for(_import(open_session(), found, chosen, dataset or chosen, camera or []))
    _show_report(report, chosen, dataset or chosen, time.monotonic() - began)


def train(
    dataset: Annotated[str, typer.Option(help="Dataset to train on.")],
    model: Annotated[str, typer.Option(help="Model to make a version of; the dataset's name when empty.")] = "",
    version: Annotated[int, typer.Option(min=0, help="Dataset version; 0 takes the newest, cut first if need be.")] = 0,
    epochs: Annotated[int, typer.Option(min=0, help="0 takes the trainer's default.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="0 draws one.")] = 0,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Do not start from the champion.")] = False,
) -> None:
    """Train a model and wait for the end. Ctrl-C stops the waiting, not the training."""
    from irisloop.trainer.v1 import trainer_pb2

    request = trainer_pb2.StartRunRequest(
        model=model or dataset,
        dataset=dataset,
        dataset_version=version,
        seed=seed,
        epochs=epochs,
        from_scratch=from_scratch,
    )
    wait_for(_train(open_session(), request))


async def _import(session: Session, found: LabelledFolder, name: str, dataset: str, cameras: list[str]) -> ImportReport:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from services.local.importing import import_labelled

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console()) as progress:
        bar = progress.add_task(f"import/{name}", total=len(found.files))
        return await import_labelled(
            found.images(),
            name=name,
            dataset=dataset,
            class_names=found.class_names,
            cameras=[*cameras, f"import/{name}"] if cameras else [],
            ingest_url=session.url("ingest"),
            labeling_address=session.address("labeling"),
            on_progress=lambda done: progress.update(bar, completed=done),
        )


def _show_report(report: ImportReport, name: str, dataset: str, seconds: float) -> None:
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(report.statuses.items()))
    out = console()
    out.print(f"import/{name}: {report.images:,} images in {seconds:.1f} s ({counts})")
    out.print(f"dataset {dataset}: {report.labels_created:,} labels new, {report.labels_unchanged:,} there already")
    for line in report.rejected:
        out.print(f"  rejected {line}", markup=False)
    if not report.labels_created and not report.labels_unchanged:
        out.print("No labels were found: put the images into one folder a class, or give --labels.")


async def _train(session: Session, request: Any) -> None:
    from irisloop.trainer.v1 import trainer_pb2, trainer_pb2_grpc

    async with session.stub("trainer", trainer_pb2_grpc.TrainerServiceStub) as stub:
        run = (await session.call("trainer", stub.StartRun, request, timeout_s=START_S)).run
        console().print(f"run {run.id} of {run.model} on {run.dataset}")
        run = await _follow(session, stub, run)
        if run.state != trainer_pb2.RUN_STATE_SUCCEEDED:
            state = trainer_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
            raise LocalError(f"Run {run.id} {state}: {run.error or 'see `irisloop logs trainer`'}")
    for score in run.report.scores:
        for condition in score.conditions:
            if not condition.assets:  # without a new condition there is nothing to be right or wrong on
                continue
            console().print(
                f"{score.role:<10} {condition.condition:<12} accuracy {condition.accuracy:.3f} "
                f"({condition.accuracy_low:.3f}-{condition.accuracy_high:.3f}, {condition.assets:,} assets)"
            )
    await _show_judgement(session, run)


async def _follow(session: Session, stub: Any, run: Any) -> Any:
    from irisloop.trainer.v1 import trainer_pb2
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    over = (trainer_pb2.RUN_STATE_SUCCEEDED, trainer_pb2.RUN_STATE_FAILED, trainer_pb2.RUN_STATE_CANCELLED)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console()) as progress:
        bar = progress.add_task("queued", total=None)
        while run.state not in over:
            await asyncio.sleep(POLL_S)
            run = (await session.call("trainer", stub.GetRun, trainer_pb2.GetRunRequest(run_id=run.id))).run
            words = f"waits for {run.waiting_for}" if run.waiting_for else f"epoch {run.epoch} of {run.epochs}"
            progress.update(bar, description=words, completed=run.epoch, total=run.epochs or None)
    return run


def gate_line(gate: Any) -> str:
    """One gate's outcome with its two numbers, for a person."""
    verdict = "passed" if gate.passed else "failed"
    return f"{verdict} {gate.gate}: {gate.measured:.4g} (limit {gate.limit:.4g}, {gate.detail})"


async def _show_judgement(session: Session, run: Any) -> None:
    """What registry makes of the run; it hears of the end by an event, a moment after us."""
    from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc

    deadline = time.monotonic() + JUDGED_S
    async with session.stub("registry", registry_pb2_grpc.RegistryServiceStub) as stub:
        while time.monotonic() < deadline:
            request = registry_pb2.ListVersionsRequest(model=run.model, run_id=run.id)
            versions = (await session.call("registry", stub.ListVersions, request)).versions
            if versions:
                state = registry_pb2.VersionState.Name(versions[0].state).removeprefix("VERSION_STATE_").lower()
                console().print(f"{run.model} version {versions[0].version} is {state.replace('_', ' ')}.")
                for gate in versions[0].gates:
                    console().print(f"  {gate_line(gate)}", markup=False)
                return
            await asyncio.sleep(POLL_S)
    console().print("registry has not judged it yet; `irisloop models list` will show it.")
