"""What a policy of retraining costs over 20 simulated months, beside an oracle and what people do without a monitor."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from tests.bench.monitor.cost_askers import everybody
from tests.bench.monitor.cost_loop import Course, Loop
from tests.bench.monitor.cost_world import DAYS, World
from tests.bench.monitor.figures import read, table, write

SEEDS: Final = range(1, 6)
"""World 0 was looked at while the policies were written; what is reported is of the others."""
AIMS: Final = {"ratio": 1.25, "runs_an_episode": 1.1, "answered": 0.9}
"""Cost against the oracle's, runs for each change that pays, and the share of such changes that were answered."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A policy over all worlds; costs are means for a world, shares are of all worlds' episodes together.

    `strict` is the ratio without the oracle's harm while its version is up to date, which nobody can avoid.
    """

    name: str
    cost: float
    harm: float
    spent: float
    ratio: float
    strict: float
    worst: float
    runs_an_episode: float
    answered: float
    refused: int

    def misses(self) -> list[str]:
        """Which aims it does not reach."""
        short = [] if self.answered >= AIMS["answered"] else ["answered"]
        return [name for name in ("ratio", "runs_an_episode") if getattr(self, name) > AIMS[name]] + short


def measure(seeds: Sequence[int], days: int = DAYS) -> list[dict[str, Any]]:
    """A row for each policy and world."""
    rows = []
    for seed in seeds:
        plan = World(seed, days)
        for asker in everybody(plan):
            begun = time.process_time()
            course = Loop.begin(plan, asker).play()
            rows.append(row_of(course) | {"cpu_seconds": round(time.process_time() - begun, 1)})
            sys.stderr.write(f"{rows[-1]}\n")
    return rows


def row_of(course: Course) -> dict[str, Any]:
    """One policy in one world."""
    paying = [e for e in course.episodes if e.pays]
    return {
        "policy": course.name,
        "seed": course.seed,
        "harm": round(course.harm, 1),
        "settled": round(course.settled, 1),
        "runs": course.runs,
        "refused": course.refused,
        "run_cost": course.run_cost,
        "label_cost": course.label_cost,
        "total": round(course.total, 1),
        "episodes": len(course.episodes),
        "paying": len(paying),
        "answered": course.answered(),
        "answered_kinds": course.answered_kinds(),
    }


def summaries(rows: Sequence[dict[str, Any]]) -> list[Summary]:
    """By policy, in the order of the rows."""
    names = list(dict.fromkeys(row["policy"] for row in rows))
    oracle = {row["seed"]: row for row in rows if row["policy"] == "oracle"}
    return [_summary(name, [row for row in rows if row["policy"] == name], oracle) for name in names]


def _summary(name: str, rows: Sequence[dict[str, Any]], oracle: dict[int, dict[str, Any]]) -> Summary:
    bests = [oracle[row["seed"]] for row in rows]
    paying = max(sum(row["paying"] for row in rows), 1)
    return Summary(
        name=name,
        cost=fmean(row["total"] for row in rows),
        harm=fmean(row["harm"] for row in rows),
        spent=fmean(row["run_cost"] + row["label_cost"] for row in rows),
        ratio=sum(row["total"] for row in rows) / sum(best["total"] for best in bests),
        strict=sum(row["total"] - best["settled"] for row, best in zip(rows, bests, strict=True))
        / sum(best["total"] - best["settled"] for best in bests),
        worst=max(row["total"] / best["total"] for row, best in zip(rows, bests, strict=True)),
        runs_an_episode=sum(row["runs"] for row in rows) / paying,
        answered=sum(row["answered"] for row in rows) / paying,
        refused=sum(row["refused"] for row in rows),
    )


def show(rows: Sequence[dict[str, Any]]) -> str:
    """As docs/benchmarks.md has it."""
    head = (
        "Policy", "Cost", "of it excess risk", "runs and labels", "against the oracle", "the same, strict",
        "worst world", "runs a paying change", "paying changes answered", "misses",
    )  # fmt: skip
    lines = [
        (
            s.name, f"{s.cost:,.0f}", f"{s.harm:,.0f}", f"{s.spent:,.0f}", f"{s.ratio:.2f}", f"{s.strict:.2f}",
            f"{s.worst:.2f}", f"{s.runs_an_episode:.2f}", f"{s.answered:.0%}", ", ".join(s.misses()) or "none",
        )
        for s in summaries(rows)
    ]  # fmt: skip
    return table(head, lines)


def kinds(rows: Sequence[dict[str, Any]], name: str = "Irisloop") -> str:
    """How many changes of each kind that pay were answered, and how many runs the others caused."""
    found: dict[str, list[int]] = {}
    for row in rows:
        for kind, (answered, count) in row["answered_kinds"].items() if row["policy"] == name else ():
            sums = found.setdefault(kind, [0, 0])
            sums[0] += answered
            sums[1] += count
    return ", ".join(f"{kind} {answered} of {count}" for kind, (answered, count) in sorted(found.items()))


def main(scale: int, seeds: int) -> None:
    """Measure, keep the rows in `.irisloop/bench`, write the table to standard output; `scale` shortens the months."""
    rows = measure(SEEDS[:seeds], max(DAYS // scale, 120))
    write("monitor-cost", {"cost": rows} if scale == 1 else {"quick": rows})
    stored = read("monitor-cost")["cost" if scale == 1 else "quick"]
    sys.stdout.write(f"{show(stored)}\nIrisloop answered: {kinds(stored)}.\n")
