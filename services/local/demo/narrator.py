"""Tells the person at the terminal what happens, as it happens."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.local.demo.statistics import Share

if TYPE_CHECKING:
    from services.local.demo.director import Director
    from services.local.demo.report import Facts

REFRESH_S = 0.5
PLAIN_EVERY_S = 10.0


@dataclass(slots=True)
class Narrator:
    """Prints acts and sentences; on a terminal a status line below them lives on."""

    console: Console
    began: float = field(default_factory=time.monotonic)

    def act(self, name: str) -> None:
        """A new act begins."""
        self.console.print(f"[dim]{self._clock()}[/] [bold cyan]{name}[/]", highlight=False)

    def say(self, sentence: str) -> None:
        """Something happened."""
        self.console.print(f"[dim]{self._clock()}[/]   {sentence}", highlight=False)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        return f"{minutes:02d}:{seconds:02d}"

    async def follow(self, director: Director) -> None:
        """Keep the status line true, and tell what the journal saw; ends when cancelled."""
        told: set[str] = set()
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            printed = time.monotonic()
            while True:
                if not director.is_live:
                    await asyncio.sleep(REFRESH_S)
                    continue
                self._tell_news(director, told)
                line = status_line(director)
                live.update(line, refresh=True)
                if not self.console.is_terminal and time.monotonic() - printed > PLAIN_EVERY_S:
                    printed = time.monotonic()
                    self.say(line)
                await asyncio.sleep(REFRESH_S)

    def _tell_news(self, director: Director, told: set[str]) -> None:
        for key, sentence in news(director):
            if key not in told:
                told.add(key)
                self.say(sentence)


def status_line(director: Director) -> str:
    """Frames, live accuracy with its interval, how far predictions are behind, calls, labels."""
    journal, sent = director.facts.journal, director.cameras.sent
    live = Share(sum(journal.live), len(journal.live))
    behind = len(journal.truth.label) - len(journal.answers["champion"])
    calls, people = director.client.calls, director.annotators
    return (
        f"[green]{sent.frames:,}[/] frames, accuracy now {live.value:.3f} [{live.low:.2f}, {live.high:.2f}], "
        f"{behind} in flight, {calls.calls:,} client calls ({calls.failures} failed), "
        f"{sum(people.answered.values())} labels from people"
    )


def news(director: Director) -> list[tuple[str, str]]:
    """(key, sentence) for everything that the journal has seen and that people want to hear of."""
    from irisloop.monitor.v1 import monitor_pb2

    journal = director.facts.journal
    told: list[tuple[str, str]] = []
    for place, incident in enumerate(journal.drifts):
        state = monitor_pb2.MonitorState.Name(incident.state).rsplit("_", 1)[-1].lower()
        cause = monitor_pb2.DriftCause.Name(incident.cause).rsplit("_", 1)[-1].lower()
        harm = monitor_pb2.DriftHarm.Name(incident.harm).rsplit("_", 1)[-1].lower()
        shape = monitor_pb2.DriftShape.Name(incident.shape).rsplit("_", 1)[-1].lower()
        words = (
            f"[yellow]monitor: {state}[/], cause {cause}, harm {harm}, shape {shape}, {len(incident.cameras)} cameras"
        )
        told.append((f"drift{place}", words))
    told += [(f"alert{a.id}", f"[red]{a.severity}[/]: {a.summary}") for a in journal.alerts]
    told += [(f"request{r.request_id}", f"[bold]retrain requested[/]: {r.reason}") for r in journal.requests]
    told += [(f"declined{d.id}", f"retrain declined: {d.reason}") for d in journal.declined]
    told += [(f"waiting{w.run.id}", f"run waits for {w.run.waiting_for}") for w in journal.waiting]
    told += [
        (f"epoch{p.run_id}{p.epoch}", f"epoch {p.epoch}/{p.epochs}: validation accuracy {p.validation_accuracy:.3f}")
        for p in journal.progress
    ]
    told += [
        (f"judged{j.version.version}{j.version.state}", f"registry on version {j.version.version}: {j.reason}")
        for j in journal.judged
    ]
    told += [
        (f"move{m.id}", f"[green]{m.alias}[/]: {m.from_version or '-'} -> {m.to_version or '-'}") for m in journal.moves
    ]
    return told


def table(facts: Facts, report: dict[str, Any], broken: list[str]) -> Table:
    """The report for people."""
    shown = Table(title=f"irisloop demo: {report['scenario']}, seed {report['seed']}", show_header=False)
    frames, predictions, client = report["frames"], report["predictions"], report["client"]
    shares = report["accuracy"]
    for name in ("healthy", "drifted", "recovered"):
        low, high = shares["interval"][name]
        count = shares["frames"][name]
        shown.add_row(
            f"accuracy, {name}", f"{shares[name]:.3f} [{low:.3f}, {high:.3f}] on {count:,} frames" if count else "-"
        )
    shown.add_row("frames", ", ".join(f"{frames[k]:,} {k}" for k in ("sent", "accepted", "rejected", "redelivered")))
    shown.add_row(
        "predictions",
        f"{predictions['unique']:,} of {predictions['expected']:,} expected, {predictions['repeated']} repeated",
    )
    swaps = ", ".join(f"{s['version_before']} -> {s['version_after']}" for s in client["swaps"]) or "none"
    shown.add_row("client", f"{client['calls']:,} calls, {client['failures']} failed; swaps under load: {swaps}")
    drift = report["drift"]
    shown.add_row(
        "drift",
        f"onset at frame {drift['onset_frame']:,}, detected at {drift['detected_frame']:,}: "
        f"cause {drift['cause'] or '-'}, "
        f"harm {drift['harm'] or '-'}, shape {drift['shape'] or '-'}; {drift['false_alarms']} false alarms",
    )
    retrain = report["retrain"]
    shown.add_row(
        "retraining",
        f"{retrain['requests']} requests, {retrain['runs_after_onset']} runs, {retrain['labels_used']} new labels, "
        f"champion is version {retrain['champion']}",
    )
    for kill in report["kills"]:
        shown.add_row(
            f"killed {kill['target']}", f"{kill['phase']}, frame {kill['frame']:,}, down {kill['seconds_down']} s"
        )
    shown.add_row("seconds", ", ".join(f"{name} {value}" for name, value in report["seconds"].items()))
    verdict = "[bold green]every promise kept[/]" if not broken else "[bold red]" + "\n".join(broken) + "[/]"
    shown.add_row("verdict", verdict)
    return shown
