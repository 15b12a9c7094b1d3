"""How often a return is told as one, and how often another light is: version 1 lives in A, version 2 is trained for B,
then A comes back (or C, as far away and in a direction of its own; or light half way from B to A). No labels are
needed: whether it recurs is decided when the incident is level. `python -m tests.bench.monitor.recurring` prints it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from services.monitor.domain.runlength import correlation_time
from tests.bench.monitor.figures import table
from tests.unit.monitor.returns import Lights, Phase

CELLS: Final = tuple(
    (rho, size, last, part)
    for rho in (0.0, 0.5, 0.9)
    for size in (4.0, 8.0)
    for last, part in (("A", 1.0), ("C", 1.0), ("B", 0.5))
)
"""Correlation of consecutive frames, standard deviations from A to a light over nine pixel channels, the last light."""


@dataclass(frozen=True, slots=True)
class Found:
    """Of one world: whether the last light was alarmed, found level, told to recur, and by a stored version."""

    alarmed: bool
    level: bool
    recurs: bool
    stored: bool


def judge(seed: int, rho: float, size: float, last: str, part: float) -> Found:
    """One world."""
    slow = 1.0 if not rho else correlation_time(rho) / 2.0
    learning, seen = round(350 * slow), round(200 * slow)
    phases = (
        Phase(learning, "A", "1"),
        Phase(seen, "B", "1"),
        Phase(learning, "B", "2"),
        Phase(seen, last, "2", part),
    )
    world = Lights(seed, phases, cameras=2, size=size, rho=rho, labelled=0.0)
    world.run()
    of_two = [one for one in world.incidents() if one.version == "2" and not one.closed_at]
    return Found(
        bool(of_two),
        any(one.level_since for one in of_two),
        any(one.recurs is not None for one in of_two),
        any(one.recurs is not None and one.recurs.version == "1" for one in of_two),
    )


def measure(seeds: int, processes: int, chosen: Sequence[float]) -> list[dict[str, Any]]:
    """A row for each cell of the chosen correlations."""
    rows = []
    cells = [cell for cell in CELLS if cell[0] in chosen]
    with ProcessPoolExecutor(processes) as pool:
        jobs = [[pool.submit(judge, seed, *cell) for seed in range(seeds)] for cell in cells]
        for (rho, size, last, part), found in zip(cells, jobs, strict=True):
            all_ = [one.result() for one in found]
            rows.append(
                {
                    "rho": rho, "size": size, "last": last if part == 1.0 else "half way to A", "worlds": seeds,
                    "alarmed": sum(one.alarmed for one in all_), "level": sum(one.level for one in all_),
                    "recurs": sum(one.recurs for one in all_), "stored": sum(one.stored for one in all_),
                }
            )  # fmt: skip
    return rows


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """As docs/benchmarks.md shows it."""
    head = ("frames", "A to another light", "comes", "worlds", "alarmed", "level at the end", "told recurring")
    return table(
        (*head, "version 1 known"),
        [
            ("i.i.d." if not r["rho"] else f"AR(1) {r['rho']:g}", f"{r['size']:g} sigma", r["last"], r["worlds"],
             r["alarmed"], r["level"], r["recurs"], r["stored"])
            for r in rows
        ],
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rho", type=float, nargs="*", default=[0.0, 0.5, 0.9])
    chosen = parser.parse_args()
    sys.stdout.write(report(measure(chosen.seeds, chosen.processes, chosen.rho)) + "\n")
