"""How soon and how surely a challenger is judged: synthetic rollouts of many kinds through the judge's engine.

    python -m tests.bench.bench_challenge [--runs 20] [--out .irisloop/bench/challenge.json]

The champion is right in .90; "lost" and "mended" are the shares of all requests where only the challenger is wrong, and
where only the champion is. Labels come 100 requests late, for every request unless the row says otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.monitor.domain.events import Judged
from services.monitor.domain.policy import Policy
from tests.unit.monitor.rollouts import Rollout, without_disagreement
from tests.unit.monitor.worlds import policy

WORSE: Final = frozenset({"worse"})
GOOD: Final = frozenset({"equal", "better"})
ANY: Final = WORSE | GOOD


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of challenger, until which verdicts it is watched, and how often relative to the others."""

    name: str
    make: Callable[[int], Rollout]
    until: frozenset[str]
    times: int = 1
    labels_only: bool = False


CASES: Final = (
    Case("classes shuffled, labels", lambda s: Rollout(s, 400, shuffled=True), WORSE, labels_only=True),
    Case("classes shuffled, no labels", lambda s: Rollout(s, 400, shuffled=True, labelled=0.0), WORSE),
    Case("right .80 (lost .11, mended .01)", lambda s: Rollout(s, lost=0.11, mended=0.01), ANY, labels_only=True),
    Case("right .87 (lost .04, mended .01), until accepted", lambda s: Rollout(s, lost=0.04, mended=0.01), GOOD),
    Case("right .87 (lost .04, mended .01)", lambda s: Rollout(s, lost=0.04, mended=0.01), ANY),
    Case("equal (lost .01, mended .01)", lambda s: Rollout(s, lost=0.01, mended=0.01), ANY),
    Case("equal (lost .02, mended .02)", lambda s: Rollout(s, 6000, lost=0.02, mended=0.02), ANY),
    Case("equal (lost .03, mended .03)", lambda s: Rollout(s, 8000, lost=0.03, mended=0.03), ANY),
    Case("better by .01 (lost .01, mended .02)", lambda s: Rollout(s, lost=0.01, mended=0.02), ANY),
    Case("better by .05 (lost .01, mended .06)", lambda s: Rollout(s, lost=0.01, mended=0.06), ANY),
    Case("A/A (lost .03, mended .03), 2,000 pairs", lambda s: Rollout(s, lost=0.03, mended=0.03), WORSE, times=5),
)


def measure(case: Case, runs: int) -> dict[str, Any]:
    """The last word of each run, and after how many outcomes it came."""
    used: Policy = without_disagreement() if case.labels_only else policy()
    said: list[list[Judged]] = [case.make(seed).run(used, case.until) for seed in range(runs * case.times)]
    reached = [one[-1] for one in said if one and one[-1].verdict in case.until]
    verdicts = Counter(one[-1].verdict if one else "undecided" for one in said)
    return {
        "case": case.name,
        "rollouts": len(said),
        "verdicts": dict(sorted(verdicts.items())),
        "pairs": spread([one.pairs for one in reached]),
        "labelled": spread([one.labelled for one in reached]),
    }


def spread(counts: list[int]) -> dict[str, int]:
    """Median and largest; nothing of nothing."""
    return {"median": round(statistics.median(counts)), "largest": max(counts)} if counts else {}


def table(rows: list[dict[str, Any]]) -> str:
    """As docs/benchmarks.md shows it; pairs and labels are until the verdict that the row waits for."""
    lines = ["| Challenger | Rollouts | Verdicts | Pairs, median (largest) | Labelled |", "|---|---:|---|---:|---:|"]
    for row in rows:
        verdicts = ", ".join(f"{count} {name}" for name, count in row["verdicts"].items())
        counts = [f"{c['median']:,} ({c['largest']:,})" if (c := row[key]) else "" for key in ("pairs", "labelled")]
        lines.append(f"| {row['case']} | {row['rollouts']} | {verdicts} | {counts[0]} | {counts[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, say, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(".irisloop/bench/challenge.json"))
    chosen = parser.parse_args()
    rows = [measure(case, chosen.runs) for case in CASES]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
