"""`make bench-monitor`: everything that docs/benchmarks.md says about drift detection, by one command.

    python -m tests.bench.monitor [null|delay ...] [--quick] [--frames 3000000] [--seeds 100]

Figures go to `.irisloop/bench/monitor-null.json` and `monitor-delay.json`, tables to standard output, rows as they are
measured to standard error.
"""

from __future__ import annotations

import argparse

from tests.bench.monitor import delays, null


def main() -> None:
    """Run what was chosen, everything by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="null|delay", default=[])
    parser.add_argument("--quick", action="store_true", help="a twentieth of it, to see that it runs")
    parser.add_argument("--frames", type=int, default=3_000_000, help="of all cameras, for each kind of stream")
    parser.add_argument("--seeds", type=int, default=100)
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - {"null", "delay"}:
        parser.error(f"there is no part {min(unknown)!r}: null or delay")
    parts = chosen.parts or ["null", "delay"]
    if "null" in parts:
        null.main(chosen.quick, chosen.frames)
    if "delay" in parts:
        delays.main(chosen.quick, chosen.seeds)


if __name__ == "__main__":
    main()
