"""`make bench-monitor`: everything that docs/benchmarks.md says about drift detection, by one command.

    python -m tests.bench.monitor [null|delay|shifts|batch|labels|rivals|concepts|cost|fleet|probe ...] [--quick] ...

`delay` is shifts to concepts. Figures go to `.irisloop/bench/monitor-<part>.json`, rows as they are
measured to standard error, tables to standard output; what is not measured this time stands there from the last.
"""

from __future__ import annotations

import argparse

from tests.bench.monitor import cost, delays, fleet, null, probe


def main() -> None:
    """Run what was chosen, everything by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", default=[])
    parser.add_argument("--quick", action="store_true", help="a twentieth of it, to see that it runs")
    parser.add_argument("--frames", type=int, default=2_100_000, help="of all cameras, for each kind of stream")
    parser.add_argument("--streams", default="", help="of `null`: only those whose name holds this")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--months", type=int, default=3, help="of `fleet`: so many months, each by another seed")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - {"null", "delay", "cost", "fleet", "probe", *delays.PARTS}:
        parser.error(f"there is no part {min(unknown)!r}")
    parts, scale = set(chosen.parts or ("null", "delay", "cost", "fleet", "probe")), 20 if chosen.quick else 1
    if "null" in parts:
        null.main(scale, chosen.frames, chosen.streams)
    chosen_delays = delays.PARTS if "delay" in parts else parts & delays.PARTS.keys()
    if chosen_delays:
        delays.main(chosen_delays, scale, chosen.seeds)
    if "cost" in parts:
        cost.main(scale, chosen.seeds)
    if "fleet" in parts:
        fleet.main(scale, chosen.months)
    if "probe" in parts:
        probe.main(scale)


if __name__ == "__main__":
    main()
