"""irisloop monitor policy, approve, export, backtest, rebuild: what holds, and what is made of what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.local.cli.session import complain, console, open_session, show_json, show_table, wait_for
from services.local.errors import LocalError

policy_app = typer.Typer(help="Policy files: check one, show what holds.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Model = Annotated[str, typer.Option(help="Only this model.")]
SIDES: Final = ("recorded", "replayed")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(policy_app, name="policy")
    for name, command in (
        ("approve", approve),
        ("export", export_recording),
        ("backtest", run_backtest),
        ("rebuild", rebuild),
    ):
        app.command(name)(command)


@policy_app.command("check")
def check_policy(file: Annotated[Path, typer.Argument(help="A policy file.")]) -> None:
    """Read a policy file as the monitor would, and name the field that is wrong. Exit code 1 when one is."""
    policy = _monitor("app").read_policy(file)
    models = ", ".join(sorted(policy.models)) or "none"
    console().print(f"{file} can be used. Models that depart from it: {models}.", markup=False)


@policy_app.command("show")
def show_policy(
    file: Annotated[Path | None, typer.Argument(help="A policy file; the one in use when not given.")] = None,
    model: Annotated[str, typer.Option(help="What holds for this model.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show every value that holds, defaults filled in."""
    import yaml

    policy = _policy(file)
    if model and model not in policy.models:
        complain(f"the file names nothing for {model}: what holds for every model holds for it")
    document = _monitor("domain.policy_reading").written(policy.of(model))
    if as_json:
        show_json(document)
    else:
        console().print(yaml.safe_dump(document, sort_keys=False).rstrip(), markup=False)


def export_recording(
    to: Annotated[Path, typer.Option("--to", help="File to write, NAME.jsonl.gz.")],
) -> None:
    """Write everything that the monitor heard and said, as far as the topics still hold it, into one file."""
    recording = _monitor("outbound.recording")
    names = _monitor("backtest").NAMES
    with _progress("exported") as (begun, passed):
        count = wait_for(recording.export(_kafka(), names, to, begun, passed))
    console().print(f"{count:,} records in {to}.", markup=False)


def run_backtest(
    since: Annotated[str, typer.Option(help="Report from here on: RFC 3339, or 7d, 12h, 30m before now.")] = "",
    until: Annotated[str, typer.Option(help="And up to here; later events are not replayed.")] = "",
    policy: Annotated[Path | None, typer.Option(help="The other policy; the one in use when not given.")] = None,
    detector: Annotated[
        str, typer.Option(help="What watches the channels: a name that `channels.detector` can have.")
    ] = "",
    model: Model = "",
    recording: Annotated[Path | None, typer.Option("--from", help="A recording instead of Kafka.")] = None,
    training: Annotated[float, typer.Option(help="Seconds from request to version; 0 takes the median seen.")] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this .svg or .png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay recorded events through another policy or detector: what would have been alarmed, asked and saved."""
    backtest, pictures = _monitor("backtest"), _monitor("views.pictures")
    if plot is not None:
        pictures.form_of(plot)  # Before the work, not after it.
    chosen = _with_detector(_policy(policy), detector)
    source = _monitor("outbound.recording").FileSource(recording) if recording else _kafka()
    with _progress("replayed") as (begun, passed):
        report = wait_for(
            backtest.backtest(
                source, chosen, since=_moment(since, 0.0), until=_moment(until, float("inf")), model=model,
                training=training, begun=begun, passed=passed,
            )
        )  # fmt: skip
    figures = backtest.figures(report)
    if plot is not None:
        pictures.backtest(figures, plot)
    if as_json:
        show_json(figures)
    else:
        _show(figures)


def approve(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="Say no instead.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
) -> None:
    """Approve the retraining that waits for a person (policy: `retrain.approval: person`)."""
    from getpass import getuser

    from irisloop.monitor.v1 import monitor_pb2, monitor_pb2_grpc

    session = open_session()
    request = monitor_pb2.AnswerRetrainRequest(model=model, approve=not refuse, reason=reason, answered_by=getuser())

    async def answer() -> Any:
        async with session.stub("monitor", monitor_pb2_grpc.MonitorServiceStub) as stub:
            return await session.call("monitor", stub.AnswerRetrain, request)

    said = wait_for(answer()).answer
    words = "approved" if said.approved else "refused"
    console().print(f"Retraining of {model} for incident {said.incident_id}: {words}.", markup=False)


def rebuild(
    only: Annotated[str, typer.Option(help="state or analytics; both when not given.")] = "",
    accept_expired: Annotated[
        bool, typer.Option("--accept-expired", help="Although the topics no longer hold their beginnings.")
    ] = False,
) -> None:
    """Recreate the monitor's state and analytics from the topics. The monitor must be stopped, Kafka must run."""
    if only not in ("", "state", "analytics"):
        raise LocalError(f"--only must be state or analytics, not {only!r}.")
    rebuilding, settings = _monitor("rebuilding"), _monitor("settings").MonitorSettings()
    kafka = open_session().common().kafka
    with _progress("rebuilt") as (begun, passed):
        for line in wait_for(rebuilding.rebuild(kafka, settings, _policy(None), only, accept_expired, begun, passed)):
            console().print(line, markup=False)


def _show(figures: dict[str, Any]) -> None:
    """Both courses side by side, and every request with what it was worth."""
    sides = [figures[side] for side in SIDES]
    lines = [
        (words, *(_cell(side[name]) for side in sides))
        for words, name in (
            ("incidents", "incidents"),
            ("of them sure to hurt", "confirmed"),
            ("pages", "pages"),
            ("tickets", "tickets"),
            ("retraining asked for", "requests"),
            ("asking refused", "refusals"),
            ("seconds from change to alarm", "mean_seconds_to_alarm"),
            ("harm avoided, estimated", "harm_avoided"),
            ("cost of the runs", "run_cost"),
            ("saved, estimated", "saved"),
        )
    ]
    console().print(f"{_at(figures['from'])} to {_at(figures['to'])}, {figures['records']:,} events", markup=False)
    show_table(("", "really", "by this policy"), lines, "")
    for side, words in zip(SIDES, ("really", "by this policy"), strict=True):
        for one in figures[side]["asked"]:
            console().print(
                f"{_at(one['at'])} {words} asked: {one['reason']}; saved {_cell(one['saved'])}", markup=False
            )
    _remarks(figures)


def _remarks(figures: dict[str, Any]) -> None:
    same = "said exactly what was said" if figures["identical"] else "differs from what was said"
    console().print(f"The replay {same}.", markup=False)
    if figures["expired"]:
        complain(f"no longer held, so the replay knows nothing of it: {'; '.join(figures['expired'])}")
    if figures["late_inputs"]:
        complain(f"{figures['late_inputs']:,} inputs came later than the policy waits for: where they count may differ")
    if figures["broken_records"]:
        complain(f"{figures['broken_records']:,} records break their contract and were left out, as they were then")
    if figures["training_assumed"]:
        complain(f"no run was recorded: a training is taken to last {figures['training_seconds']:.0f} s (--training)")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {code}" for code, count in value.items()) or "0"
    if value is None:
        return "unknown"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else "nothing"


def _moment(text: str, otherwise: float) -> float:
    """Seconds since 1970 of a time, or of so long before now. Raises `LocalError`."""
    if not text:
        return otherwise
    units = {"d": 86_400, "h": 3_600, "m": 60}
    if text[-1] in units and text[:-1].isdecimal():
        return datetime.now(UTC).timestamp() - int(text[:-1]) * units[text[-1]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise LocalError(f"{text!r} is neither a time such as 2026-03-01T12:00:00Z nor a stretch such as 7d.") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _with_detector(policy: Any, name: str) -> Any:
    """The policy with another detector, for every model."""
    if not name:
        return policy
    try:
        return policy.watched_by(_monitor("domain.detectors.choice").read_choice(name, "--detector", "channels"))
    except ValueError as error:
        raise LocalError(f"{error}.") from error


def _policy(file: Path | None) -> Any:
    return _monitor("app").read_policy(file or _monitor("settings").MonitorSettings().policy)


def _kafka() -> Any:
    return _monitor("outbound.recording").KafkaSource(open_session().common().kafka)


@contextmanager
def _progress(words: str) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar on the error output, where a person looks on; (begun with a total, so many passed)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    shown = Console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(words, total=None)
        yield (lambda total: bar.reset(task, total=total)), (lambda steps: bar.advance(task, steps))


def _monitor(module: str) -> Any:
    """A module of monitor, by name: the command line is built on no service."""
    return import_module(f"services.monitor.{module}")
