"""How often a probe of old answers is wrong, and how often and how soon it is right: people answer at rates that are
known, and somebody looks after every answer. The shipped policy's error rate and bound on what is usual.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import numpy as np

from services.monitor.domain.probe_events import ProbeVerdict
from tests.bench.monitor.figures import read, share_interval, table, write
from tests.unit.monitor.rereadings import PEOPLE, SUSPECTED, Rate, answers, swapped, watched
from tests.unit.monitor.worlds import policy

RUNS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Case:
    """What is true: how often who answers what otherwise. `wanted` is the word that should come, `never` one that must
    not, by the error rate.
    """

    name: str
    rate: Rate
    wanted: ProbeVerdict
    never: ProbeVerdict
    people: Sequence[str] = PEOPLE
    assets: int = 30


def _flat(share: float) -> Rate:
    return lambda who, name: share


def _only(who_errs: str, rate: float, others: Rate) -> Rate:
    return lambda who, name: rate if who == who_errs else others(who, name)


def _misread(who_errs: str, rate: float, others: float) -> Rate:
    return lambda who, name: rate if who == who_errs and name in SUSPECTED else others


def _about(suspected: float, other: float) -> Rate:
    return lambda who, name: suspected if name in SUSPECTED else other


_MOVED, _STANDS = ProbeVerdict.MOVED, ProbeVerdict.STANDS
CASES: Final = (
    Case("nothing moved; people differ in 2 %", _flat(0.02), _STANDS, _MOVED),
    Case("... in 10 %, the policy's bound", _flat(0.1), _STANDS, _MOVED),
    Case("... in 30 %, beyond it", _flat(0.3), _STANDS, _MOVED),
    Case("... in 10 % of the suspected classes, never else", _about(0.1, 0.0), _STANDS, _MOVED),
    Case("one of three answers otherwise in 95 %", _only("ben", 0.95, _flat(0.03)), _STANDS, _MOVED),
    Case("... of the suspected classes", _misread("ben", 0.95, 0.03), _STANDS, _MOVED),
    Case("two classes changed places; 5 % differ", swapped, _MOVED, _STANDS),
    Case("... two annotators", swapped, _MOVED, _STANDS, people=("ann", "ben")),
    Case("... two annotators, 40 assets", swapped, _MOVED, _STANDS, people=("ann", "ben"), assets=40),
    Case("... one annotator", swapped, _MOVED, _STANDS, people=("ann",)),
    Case("... five annotators", swapped, _MOVED, _STANDS, people=("ann", "ben", "cid", "dora", "eve")),
    Case("... on four of five cameras", _about(0.77, 0.05), _MOVED, _STANDS),
    Case("... 40 assets", _about(0.77, 0.05), _MOVED, _STANDS, assets=40),
    Case("... and one of three is wrong everywhere", _only("ben", 0.95, swapped), _MOVED, _STANDS),
)  # fmt: skip


def measure(case: Case, runs: int, seed: int) -> dict[str, Any]:
    """One row."""
    rng, rules = np.random.default_rng([29, seed]), policy().probe
    found = [watched(answers(rng, case.rate, case.assets, case.people), rules.usual, rules.error_rate)
             for _ in range(runs)]  # fmt: skip
    counts = [count for reading, count in found if reading.verdict is case.wanted]
    named = [reading.annotator for reading, _ in found if reading.annotator]
    return {
        "name": case.name,
        "runs": runs,
        "wanted": case.wanted.name.lower(),
        "right": len(counts),
        "false": sum(reading.verdict is case.never for reading, _ in found),
        "answers": median(counts) if counts else None,
        "ben_named": named.count("ben"),
        "others_named": len(named) - named.count("ben"),
    }


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """As docs/benchmarks.md shows it."""
    head = ("What is true", "word that should come", "it came", "after answers, median", "the false word", "ben named",
            "others named")  # fmt: skip
    lines = []
    for row in rows:
        low, high = share_interval(row["right"], row["runs"])
        share = f"{row['right'] / row['runs']:.1%} ({low:.1%}-{high:.1%})"
        false = f"{row['false'] / row['runs']:.2%}"
        named = [f"{row[key] / row['runs']:.1%}" for key in ("ben_named", "others_named")]
        lines.append((row["name"], row["wanted"], share, row["answers"] or "", false, *named))
    return table(head, lines)


def main(scale: int) -> None:
    """Measure all, say, write."""
    rows = [measure(case, max(RUNS // scale, 1), seed) for seed, case in enumerate(CASES)]
    write("monitor-probe", {"rows": rows})
    sys.stdout.write(report(read("monitor-probe")["rows"]))
