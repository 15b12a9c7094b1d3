"""Real images through a real model and the monitor's engine.

    python -m tests.bench.monitor.images truth [--data fashion|digits]
    python -m tests.bench.monitor.images regain [--data fashion|digits] [--tuning] [--severity N]
    python -m tests.bench.monitor.images [--data fashion|digits] [--seeds N] [--tuning]

`truth` measures what each cell costs and writes it to `tests/bench/monitor/images/truth/`, to be committed before
anything is played. `regain` retrains in each cell that costs .05 and compares what that regains with what the
monitor's probe says. Without either, all cells are played. Figures go to `.irisloop/bench/monitor-*.json`, a bar to
standard error, tables to standard output. `--tuning` takes only what may be looked at while the monitor is worked on.
"""

from __future__ import annotations

import argparse
import sys

from tests.bench.monitor import figures
from tests.bench.monitor.images import bench, regain, report, truth
from tests.bench.monitor.images.cells import TUNED_ON, Cell, all_cells


def main() -> None:
    """Measure the truth, or play."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("play", "truth", "regain"), default="play")
    parser.add_argument("--data", choices=("fashion", "digits"), default="fashion")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tuning", action="store_true", help="on digits, the eight families alone")
    parser.add_argument("--severity", type=int, help="for regain: cells of this severity alone")
    chosen = parser.parse_args()
    of = report.commit()
    ground = bench.Ground.of("digits" if chosen.tuning else chosen.data)
    if chosen.what == "truth":
        truth.write(ground.dataset.name, ground.model, bench.measure_truth(ground))
        return
    cells = [cell for cell in all_cells() if not chosen.tuning or _may_be_seen(cell)]
    if chosen.what == "regain":
        rows = regain.measure(ground, [c for c in cells if chosen.severity in (None, c.severity)])
        figures.write(f"monitor-regain-{ground.dataset.name}", {"of": of, "rows": [row.document() for row in rows]})
        sys.stdout.write(regain.show(rows))
        return
    try:
        outcomes, left_out = bench.play(ground, cells, chosen.seeds)
    except truth.OtherModel as error:
        parser.error(f"{error}: measure it anew by `truth`, and commit it before the run")
    sys.stdout.write(report.write(ground, outcomes, left_out, of, tuning=chosen.tuning))


def _may_be_seen(cell: Cell) -> bool:
    return cell.cause != "scene" or cell.kind in TUNED_ON


if __name__ == "__main__":
    main()
