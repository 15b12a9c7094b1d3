"""How long nobody watches: a camera that joins others, a version that takes over, and creep that would be normal again
with each version. Every frame goes through the whole engine; "before" is the same without what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, DriftFound, Finding, State
from services.monitor.domain.inputs import CHAMPION, Seen
from services.monitor.domain.policy import Policy
from services.monitor.domain.runlength import correlation_time
from tests.bench.monitor import runs
from tests.bench.monitor.figures import Median, poisson_upper, table
from tests.bench.monitor.streams import DAY, QUIET, Noise
from tests.unit.monitor.worlds import EPOCH, policy

OTHERS: Final = 4
NEW: Final = 8
JOINED: Final = 1_500
"""Frames of a new camera."""
_CLASSES: Final = 10


def from_nothing() -> Policy:
    """The policy as if no camera told anything of another."""
    rules = policy()
    alone = replace(
        rules.reference, frames_pooled=rules.reference.frames, effective_pooled=rules.reference.effective, pooled=0
    )
    return replace(rules, reference=alone)


@dataclass(slots=True)
class Lens:
    """A camera's features: `level` and `spread` of its own, AR(1) with `rho`, a cycle of `cycle` spreads a day, noon
    at the same time for all.
    """

    name: str
    seed: int
    rho: float = 0.0
    cycle: float = 0.0
    differ: float = 0.25
    """Deviation of the logarithm of spreads between cameras."""

    def frames(self, count: int, every: float) -> NDArray[np.float64]:
        """Features of so many frames, shape (count, WIDTH)."""
        rng = np.random.default_rng([21, self.seed])
        level, spread = 5.0 * rng.normal(size=WIDTH), np.exp(self.differ * rng.normal(size=WIDTH))
        noise = rng.normal(size=(count, WIDTH))
        if self.rho:
            noise[1:] *= np.sqrt(1.0 - self.rho**2)
            for n in range(1, count):
                noise[n] += self.rho * noise[n - 1]
        noise[:, :9] += self.cycle * np.sin(2.0 * np.pi * np.arange(count) * every / DAY)[:, None]
        values: NDArray[np.float64] = level + spread * noise
        return values


def seen(
    lens: Lens, number: int, at: float, features: NDArray[np.float64], version: str = "1", role: str = CHAMPION
) -> Seen:
    """A prediction; its class is any of ten."""
    key = f"{lens.name}-{number}-{role}"
    said = f"class-{(number * 7919 + lens.seed) % _CLASSES}"
    return Seen(at, key, "", "m", version, role, lens.name, key, said, 0.9, tuple(features.tolist()))


@dataclass(slots=True)
class Joined:
    """Frames of a new camera until it was watched, and until its first ALARM; 0 for never."""

    watched: int = 0
    alarmed: int = 0

    def note(self, camera: CameraWatch) -> None:
        """As it is now."""
        if not self.watched and camera.state >= State.OK:
            self.watched = camera.frames
        if not self.alarmed and camera.state >= State.ALARM:
            self.alarmed = camera.frames


def joining(noise: Noise, rules: Policy, seed: int, shift: float = 0.0, onset: int = 0) -> list[Joined]:
    """Four cameras are known, eight come; from their frame `onset` on one channel is moved by `shift` spreads."""
    settled = 400 if not noise.rho else int(140 * correlation_time(noise.rho))
    engine, length = Engine.new(rules), _length(noise)
    lenses = [Lens(f"camera-{n}", 100 * seed + n, noise.rho) for n in range(OTHERS + NEW)]
    values = [lens.frames(length + (settled if n < OTHERS else 0), 1.0) for n, lens in enumerate(lenses)]
    found = {lens.name: Joined() for lens in lenses[OTHERS:]}
    for lens, rows in zip(lenses[OTHERS:], values[OTHERS:], strict=True):
        rows[onset:, 0] += shift * _spread(lens)
    for n in range(settled + length):
        come = range(OTHERS if n < settled else OTHERS + NEW)
        places = [(k, n if k < OTHERS else n - settled) for k in come]
        engine.feed([("p", True, seen(lenses[k], row, EPOCH + n, values[k][row])) for k, row in places])
        known = engine.models["m"].cameras if "m" in engine.models else {}
        for name, one in found.items():
            if name in known:
                one.note(known[name])
    return list(found.values())


def _length(noise: Noise) -> int:
    """Frames of a new camera: more where they are so much alike that it takes longer to know it."""
    return JOINED if noise.rho < 0.8 else 2 * JOINED


def _spread(lens: Lens) -> float:
    rng = np.random.default_rng([21, lens.seed])
    rng.normal(size=WIDTH)
    return float(np.exp(lens.differ * rng.normal(size=WIDTH)[0]))


def start_row(noise: Noise, pooled: bool, seeds: int) -> dict[str, Any]:
    """Cameras that join: when they are watched, false alarms in their first frames, and effective frames from a change
    by 1 spread, and by 2, after 150 frames (60 effective ones, if that is more) until the ALARM.
    """
    rules = policy() if pooled else from_nothing()
    worth = correlation_time(noise.rho)
    onset, length = max(150, round(60 * worth)), _length(noise)
    quiet = [one for seed in range(seeds) for one in joining(noise, rules, seed)]
    row: dict[str, Any] = {
        "stream": noise.name,
        "pooled": pooled,
        "cameras": len(quiet),
        "onset": onset,
        "watched": sorted(one.watched or length for one in quiet)[len(quiet) // 2],
        "false": sum(one.alarmed > 0 for one in quiet),
        "frames": sum((one.alarmed or length) - (one.watched or length) for one in quiet),
    }
    row["false_per_100k_upper"] = 1e5 * poisson_upper(row["false"]) / max(row["frames"], 1)
    for shift in (1.0, 2.0):
        moved = [one for seed in range(max(seeds // 4, 1)) for one in joining(noise, rules, 1_000 + seed, shift, onset)]
        row[f"shift_{shift:g}"] = [
            round((one.alarmed - onset) / worth, 1) if one.alarmed > onset else None for one in moved
        ]
    return row


@dataclass(slots=True)
class Life:
    """One camera, a frame a minute. Each `live` days another version takes over, after `shadow` days beside the
    champion; from day `onset` on its brightness creeps by `creep` spreads a day.
    """

    seed: int
    days: int
    live: int = 4
    shadow: float = 1.0
    onset: int = 4
    creep: float = 0.0
    every: float = 60.0

    def batches(self) -> Iterator[tuple[float, list[tuple[str, bool, Seen]]]]:
        """(day, inputs) of each frame."""
        lens = Lens("camera-0", self.seed)
        day = round(DAY / self.every)
        values = lens.frames(self.days * day, self.every)
        values[:, 0] += _spread(lens) * self.creep * np.maximum(np.arange(len(values)) / day - self.onset, 0.0)
        for n, row in enumerate(values):
            at, now = EPOCH + n * self.every, n / day
            version = int(now // self.live) + 1
            batch = [("p", True, seen(lens, n, at, row, str(version)))]
            if now >= version * self.live - self.shadow:
                batch.append(("p", True, seen(lens, n, at, row + 0.0, str(version + 1), "shadow")))
            yield now, batch


def life(one: Life, rules: Policy | None = None) -> tuple[Engine, list[float], list[Finding], int]:
    """The engine at the end; the days on which the camera came into ALARM; what was said; frames not watched after the
    first take-over.
    """
    engine, alarms, said, blind = Engine.new(rules or policy()), list[float](), list[Finding](), 0
    was = State.LEARNING
    for now, batch in one.batches():
        said += engine.feed(batch)
        camera = engine.models["m"].cameras.get("camera-0") if "m" in engine.models else None
        state = camera.state if camera is not None else State.LEARNING
        alarms += [now] if was < State.ALARM <= state else []
        blind += state is State.LEARNING and now >= one.live
        was = state
    return engine, alarms, said, blind


@contextmanager
def without_anchor() -> Iterator[None]:
    """As if a new version learnt everything anew."""
    with patch.object(CameraWatch, "anchor", lambda camera: None):
        yield


def creep_row(creep: float, anchored: bool, seeds: int, days: int = 24) -> dict[str, Any]:
    """Days from the begin of the creep until the first ALARM, another version each four days."""
    found: list[float | None] = []
    false = 0
    for seed in range(seeds):
        one = Life(seed, days, creep=creep)
        if anchored:
            alarms = life(one)[1]
        else:
            with without_anchor():
                alarms = life(one)[1]
        false += sum(at < one.onset for at in alarms)
        late = [at - one.onset for at in alarms if at >= one.onset]
        found.append(round(late[0], 1) if late else None)
    return {"creep": creep, "anchored": anchored, "days": days, "false_before": false, "delays": found}


def blind_row(shadow: float, seeds: int) -> dict[str, Any]:
    """Frames that nobody watched after three take-overs, a take-over; and what was said of drift meanwhile."""
    lives = [life(Life(seed, 16, shadow=shadow)) for seed in range(seeds)]
    return {
        "shadow_days": shadow,
        "blind_frames": round(sum(blind for *_, blind in lives) / seeds / 3, 1),
        "alarms": sum(len(alarms) for _, alarms, _, _ in lives),
        "drifts": sum(isinstance(f, DriftFound | Alert) for _, _, said, _ in lives for f in said),
    }


def measure(seeds: int, processes: int) -> dict[str, Any]:
    """All of it, each row by itself."""
    few = max(seeds // 10, 2)
    pieces: dict[str, tuple[Any, tuple[Any, ...]]] = {}
    for noise in QUIET:
        for pooled in (False, True):
            pieces[f"start {noise.name} {pooled} {seeds}"] = (start_row, (noise, pooled, seeds))
    for shadow in (0.0, 1.0):
        pieces[f"blind {shadow} {few}"] = (blind_row, (shadow, few))
    for creep in (0.02, 0.05, 0.0):
        for anchored in (False, True):
            pieces[f"creep {creep} {anchored} {few}"] = (creep_row, (creep, anchored, few))
    found = runs.gather("starts", runs.judge(), pieces, processes)
    kinds = {"starts": "start", "blind": "blind", "creep": "creep"}
    return {name: [row for key, row in found.items() if key.startswith(kind)] for name, kind in kinds.items()}


def report(figures: Mapping[str, Any]) -> str:
    """As docs/benchmarks.md shows it."""
    start = [
        (r["stream"], "on four others" if r["pooled"] else "on itself", r["watched"], r["false"], f"{r['frames']:,}",
         f"{r['false_per_100k_upper']:.1f}", Median.of(r["shift_1"]), Median.of(r["shift_2"]))
        for r in figures["starts"]
    ]  # fmt: skip
    head = ("A camera joins four", "it leans", "watched after", "false ALARMs", "frames", "in 100k at most")
    blind = [
        (f"{r['shadow_days']:g} days", r["blind_frames"], r["alarms"], r["drifts"]) for r in figures["blind"]
    ]  # fmt: skip
    creep = [
        (f"{r['creep']:g} a day", "held to what was" if r["anchored"] else "learnt anew", Median.of(r["delays"]),
         r["false_before"])
        for r in figures["creep"]
    ]  # fmt: skip
    return "\n".join(
        (
            table((*head, "effective frames to 1 spread", "to 2"), start),
            table(("In shadow before it is champion", "frames nobody watched", "false ALARMs", "said"), blind),
            table(("Brightness creeps, spreads", "pixels of a new version", "days until ALARM", "false before"), creep),
        )
    )
