"""`make fuzz`: every target in turn, ten minutes each; `ARGS="images 60"` one of them for a minute."""

from __future__ import annotations

import argparse

from tests.fuzz import fuzz_config, fuzz_grpc, fuzz_http, fuzz_images

TARGETS = {"grpc": fuzz_grpc.run, "http": fuzz_http.run, "images": fuzz_images.run, "config": fuzz_config.run}
SECONDS = 600.0


def main() -> None:
    """Raises what the target raises; its notes hold the seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS), help="all of them by default")
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    chosen = parser.parse_args()
    seconds = chosen.seconds
    for name in [chosen.target] if chosen.target else TARGETS:
        print(f"{name}: {seconds:.0f} s", flush=True)  # noqa: T201
        print(f"{name}: {TARGETS[name](seconds)} inputs", flush=True)  # noqa: T201
    print("Nothing was found.")  # noqa: T201


if __name__ == "__main__":
    main()
