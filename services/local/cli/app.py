"""The command line: what people and scripts type, and how each error becomes one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import typer

from services.common.errors import InvalidMessage, IrisloopError, NotFound
from services.local.cli import (
    cameras,
    datasets,
    deadletters,
    deployment,
    lineage,
    models,
    monitor,
    monitor_gaps,
    monitor_incidents,
    monitor_quality,
    monitor_replays,
    serving,
    topics,
)
from services.local.cli.session import complain

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
KAFKA_HINT: Final = "Start it with `irisloop up`, or name another by IRISLOOP_KAFKA__BOOTSTRAP_SERVERS."

app = typer.Typer(
    name="irisloop",
    help="The closed loop that keeps computer-vision models right after they go live.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show where an error came from.")) -> None:
    """Options before the command; `main` looks at them itself."""
    del debug


deployment.add_to(app)
datasets.add_to(app)
lineage.add_to(app)
serving.add_to(app)
app.add_typer(cameras.app, name="cameras")
app.add_typer(models.app, name="models")
monitor_quality.add_to(monitor.app)
monitor_replays.add_to(monitor.app)
monitor_incidents.add_to(monitor.app)
monitor_gaps.add_to(monitor.app)
app.add_typer(monitor.app, name="monitor")
app.add_typer(topics.app, name="topics")
app.add_typer(deadletters.app, name="dlq")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 it could not be done, 2 it was asked wrongly."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run one command; returns the exit code. With `--debug` an error keeps its traceback."""
    try:
        return int(app(args=list(words), prog_name="irisloop", standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line itself is wrong; the class differs between typers
            if type(error).__name__ == "NoArgsIsHelpError":  # the message is the help itself
                typer.echo(error.format_message(), err=True)
            else:
                complain(error.format_message().rstrip(".") + "." + _hint(error))
            return EXIT_USAGE
        if "--debug" in words:
            raise
        complain(sentence(error))
        return EXIT_USAGE if isinstance(error, InvalidMessage | NotFound) else EXIT_FAILED


def sentence(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, IrisloopError):
        return f"{error}. {KAFKA_HINT}" if error.reason == "KAFKA_AWAY" else str(error)
    return f"Something unexpected happened: {type(error).__name__}: {error}. `irisloop --debug ...` shows where."


def _hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f" `{context.command_path} --help` says more." if context is not None else ""
