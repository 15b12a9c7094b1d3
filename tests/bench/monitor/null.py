"""How often the monitor speaks when nothing has changed: every frame and label goes through its engine, and incidents
end as they would: by labels that show no harm, or by quiet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Cause, DriftFound, Finding, State
from tests.bench.monitor import runs
from tests.bench.monitor.figures import poisson_upper, read, table, write
from tests.bench.monitor.streams import CYCLED, DAY, QUIET, Noise, Scene
from tests.unit.monitor.worlds import policy

ALARM_AIM: Final = 1.0 / 100_000
CONFIRMED_AIM: Final = 1.0 / 2_000_000


@dataclass(slots=True)
class Tally:
    """Counted over cameras. `watched` are frames of a camera in OK or WARN; an incident out of labels is the model's,
    and counted beside the cameras' alarms.
    """

    name: str
    frames: int = 0
    watched: int = 0
    labels: int = 0
    warn: int = 0
    alarm: int = 0
    label_alarm: int = 0
    confirmed: int = 0
    alarm_before_4000: int = 0
    watched_before_4000: int = 0
    seconds: float = 0.0


def pieces(noise: Noise, camera_frames: int, first: int) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Scenes of new cameras, by key, that see so many frames together, if not a scene more: five for 20,000 frames, or
    with a daily cycle two for three days. Seeds count from `first`.
    """
    cameras, frames, rate = (2, 3 * DAY, 1.0) if noise.cycle else (5, 20_000, 20.0)
    frames = min(frames, camera_frames // cameras)
    return {
        f"{noise.name} {seed} {frames}": (one, (noise, seed, frames, cameras, rate))
        for seed in range(first, first + camera_frames // (cameras * frames))
    }


def one(noise: Noise, seed: int, frames: int, cameras: int, rate: float) -> dict[str, Any]:
    """One scene, counted."""
    tally, begun = Tally(noise.name), time.process_time()
    run(Scene(noise, seed, frames, cameras, rate, labelled=0.02), tally)
    tally.seconds = time.process_time() - begun
    return asdict(tally)


def run(scene: Scene, tally: Tally) -> None:
    """One scene to its end."""
    engine, said = Engine.new(policy()), dict[str, State]()
    states: dict[str, State] = {}
    for batch in scene.batches():
        note(engine.feed(batch), tally, said)
        tally.labels += sum(1 for source, _, _ in batch if source == "labels/0")
        watch = engine.models.get("m")
        for camera in watch.cameras.values() if watch is not None else ():
            observe(states.get(camera.camera_id, State.LEARNING), camera.state, camera.frames, tally)
            states[camera.camera_id] = camera.state
    note(engine.drain(), tally, said)
    tally.frames += scene.frames * scene.cameras


def observe(was: State, now: State, frames: int, tally: Tally) -> None:
    """A camera after another ten frames."""
    fresh = frames <= 4000
    if State.OK <= was <= State.WARN:
        tally.watched += 10
        tally.watched_before_4000 += 10 * fresh
    if was < State.ALARM <= now:
        tally.alarm += 1
        tally.alarm_before_4000 += fresh
    tally.warn += was < State.WARN <= now


def note(findings: Sequence[Finding], tally: Tally, said: dict[str, State]) -> None:
    """What the engine said about incidents, each of them once."""
    for finding in findings:
        if isinstance(finding, DriftFound):
            incident = finding.incident
            known = said.get(incident.id)
            tally.label_alarm += known is None and incident.cause is Cause.LABELS
            tally.confirmed += incident.state is State.CONFIRMED and known is not State.CONFIRMED
            said[incident.id] = max(known or incident.state, incident.state)


def row(tally: Tally) -> dict[str, Any]:
    """With rates and their upper bounds (95 %)."""
    watched = max(tally.watched, 1)
    return {
        **asdict(tally),
        "warn_per_100k": 1e5 * tally.warn / watched,
        "alarm_per_100k": 1e5 * tally.alarm / watched,
        "alarm_per_100k_upper": 1e5 * poisson_upper(tally.alarm) / watched,
        "confirmed_per_2m": 2e6 * tally.confirmed / watched,
        "confirmed_per_2m_upper": 2e6 * poisson_upper(tally.confirmed) / watched,
        "frames_per_cpu_second": tally.frames / max(tally.seconds, 1e-9),
    }


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """As docs/benchmarks.md shows it."""
    head = ("Cameras", "Frames", "WARN in 100k", "ALARM in 100k", "at most", "aim", "CONFIRMED", "in 2M at most")
    return table(
        head,
        [
            (
                r["name"],
                f"{r['watched']:,}",
                f"{r['warn_per_100k']:.1f}",
                f"{r['alarm_per_100k']:.2f}",
                f"{r['alarm_per_100k_upper']:.2f}",
                2 if r["name"].endswith("daily cycle") else 1,
                r["confirmed"],
                f"{r['confirmed_per_2m_upper']:.2f}",
            )
            for r in rows
        ],
    )


def together(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row of several."""
    whole = Tally(name)
    for counted in rows:
        for field in Tally.__dataclass_fields__:
            if field != "name":
                setattr(whole, field, getattr(whole, field) + counted[field])
    return row(whole)


def main(scale: int, frames: int, only: str, processes: int) -> None:
    """Measure the streams whose name holds `only`, say, write. Scenes that this code has seen before count. Half of the
    frames are enough with a cycle, as its aim is twice as many.
    """
    todo = {
        noise.name: pieces(noise, frames // scale // (2 if noise.cycle else 1), 1000 * number)
        for number, noise in enumerate((*QUIET, *CYCLED))
        if only in noise.name
    }
    found = runs.gather("null", runs.judge(), {k: v for each in todo.values() for k, v in each.items()}, processes)
    write("monitor-null", {name: together(name, [found[key] for key in each]) for name, each in todo.items()})
    known = read("monitor-null")
    quiet, cycled = ([known[n.name] for n in kind if n.name in known] for kind in (QUIET, CYCLED))
    rows = [*quiet, together("all without a cycle", quiet), *cycled, together("all with a daily cycle", cycled)]
    sys.stdout.write(report(rows))
