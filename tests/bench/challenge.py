"""How soon bad versions are found, and good ones pass: `python -m tests.bench.challenge [--rollouts 20] [--equal 100]`.

Simulated answers through the whole judge. Writes `.irisloop/bench/challenge.json` and prints the table of
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median

from rich.progress import track

from tests.unit.monitor.rollouts import Course, Kind, first

FILE = Path(".irisloop/bench/challenge.json")
WORDS = {
    "shuffled": "classes shuffled, labelled",
    "late": "answers 100 requests late, labelled",
    "shuffled, no label": "classes shuffled, no label",
    "late, no label": "answers 100 requests late, no label",
    "same": "as good, 2 % of answers differ in rightness",
    "other": "as good, 4 % of answers differ in rightness",
    "better": "better by .02",
    "slightly worse": "worse by .03",
    "same, A/A": "as good (2 %), called worse",
}


def run(rollouts: int, equal: int) -> dict[str, dict[str, object]]:
    """Of each kind: how many came to the verdict that counts, and after how many outcomes."""
    found: dict[str, dict[str, object]] = {}
    bad: tuple[Kind, ...] = ("shuffled", "late")
    others: tuple[Kind, ...] = ("same", "other", "better", "slightly worse")
    for kind in bad:
        # In the stage `watch` disagreement does not count: labels alone decide.
        taken = [first(Course(kind, seed, 400, stage="watch"), "worse") for seed in track(range(rollouts), kind)]
        found[kind] = row([one.labelled if one else None for one in taken], "worse", "labels")
        taken = [first(Course(kind, seed, 400, labels=0.0), "worse") for seed in range(rollouts)]
        found[f"{kind}, no label"] = row([one.pairs if one else None for one in taken], "worse", "answers")
    for kind in others:
        taken = [first(Course(kind, seed), "equal", "better") for seed in track(range(rollouts), kind)]
        found[kind] = row([one.pairs if one else None for one in taken], "equal or better", "pairs")
    taken = [first(Course("same", 1000 + seed), "worse") for seed in track(range(equal), "A/A")]
    found["same, A/A"] = row([one.pairs if one else None for one in taken], "worse", "pairs")
    return found


def row(counts: list[int | None], verdict: str, unit: str) -> dict[str, object]:
    """One line of the table; None: the verdict never came."""
    came = sorted(count for count in counts if count is not None)
    return {
        "verdict": verdict,
        "of": len(counts),
        "came": len(came),
        "unit": unit,
        "median": median(came) if came else None,
        "most": came[-1] if came else None,
    }


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument("--equal", type=int, default=100)
    chosen = parser.parse_args()
    found = run(chosen.rollouts, chosen.equal)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(found, indent=2), encoding="utf-8")
    lines = ["| challenger (champion right .90) | verdict | came | median | most |", "|---|---|---|---|---|"]
    for name, one in found.items():
        numbers = f"{one['median']} {one['unit']} | {one['most']}" if one["came"] else "- | -"
        lines.append(f"| {WORDS[name]} | {one['verdict']} | {one['came']} of {one['of']} | {numbers} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
