"""`make bench`: every measurement of docs/benchmarks.md, one after the other; `ARGS=bus` for some of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

MEASUREMENTS: Final = ("bus", "ingest", "latency", "challenge")


def main() -> int:
    """Run each in a process of its own, so that none warms or burdens the next."""
    chosen = sys.argv[1:] or list(MEASUREMENTS)
    unknown = [name for name in chosen if name not in MEASUREMENTS]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}. Benchmarks: {', '.join(MEASUREMENTS)}.", file=sys.stderr)  # noqa: T201
        return 2
    codes = [subprocess.call([sys.executable, "-m", f"tests.bench.bench_{name}"]) for name in chosen]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
