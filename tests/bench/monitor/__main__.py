"""`make bench-monitor`: everything that docs/benchmarks.md says about drift detection, by one command.

    python -m tests.bench.monitor [null|delay|cost|fleet|probe ...] [--quick] [--processes 2] ...

`delay` is all of shifts, batch, labels, rivals, concepts, harmless, starts, each a part of its own, too. `null`,
`concepts`, `harmless` and `starts` are made of pieces that are kept in `.irisloop/bench/runs` for the state of the code
that they were measured on: a run that is broken off goes on, one with more seeds or frames adds to what is known.
`unlooking` measures nothing: it holds never, always and the clock against all these tables.

Figures go to `.irisloop/bench/monitor-<part>.json`, rows as they are measured to standard error, tables to standard
output; what is not measured this time stands there from the last.
"""

from __future__ import annotations

import argparse
import sys

from tests.bench.monitor import cost, delays, fleet, null, probe, unlooking
from tests.bench.monitor.figures import read

_ALL = ("null", "delay", "cost", "fleet", "probe", "unlooking")


def main() -> None:
    """Run what was chosen, everything by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", default=[])
    parser.add_argument("--quick", action="store_true", help="a twentieth of it, to see that it runs")
    parser.add_argument(
        "--frames", type=int, default=2_100_000, help="of `null`: for each kind of stream, half with a cycle"
    )
    parser.add_argument("--streams", default="", help="of `null`: only those whose name holds this")
    parser.add_argument("--seeds", type=int, help="instead of what each part takes by itself")
    parser.add_argument("--processes", type=int, default=1, help="that share null, concepts, harmless and starts")
    parser.add_argument("--months", type=int, default=3, help="of `fleet`: so many months, each by another seed")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - {*_ALL, *delays.PARTS}:
        parser.error(f"there is no part {min(unknown)!r}")
    parts, scale = set(chosen.parts or _ALL), 20 if chosen.quick else 1
    if "null" in parts:
        null.main(scale, chosen.frames, chosen.streams, chosen.processes)
    chosen_delays = delays.PARTS if "delay" in parts else parts & delays.PARTS.keys()
    if chosen_delays:
        delays.main(chosen_delays, scale, chosen.seeds, chosen.processes)
    if "cost" in parts:
        cost.main(scale, chosen.seeds or 100)
    if "fleet" in parts:
        fleet.main(scale, chosen.months)
    if "probe" in parts:
        probe.main(scale)
    if "unlooking" in parts:
        known = unlooking.lines(read("monitor-null"), read("monitor-delay"), read("monitor-fleet"))
        sys.stdout.write(unlooking.report(known))


if __name__ == "__main__":
    main()
