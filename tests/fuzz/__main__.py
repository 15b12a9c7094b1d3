"""`make fuzz`: every target in turn, ten minutes each; `ARGS="images 60"` one of them for a minute."""

from __future__ import annotations

import sys

from tests.fuzz import fuzz_config, fuzz_grpc, fuzz_http, fuzz_images

TARGETS = {"grpc": fuzz_grpc.run, "http": fuzz_http.run, "images": fuzz_images.run, "config": fuzz_config.run}
SECONDS = 600.0


def main() -> None:
    """Raises what the target raises; its notes hold the seed."""
    names = [name for name in sys.argv[1:] if name in TARGETS] or list(TARGETS)
    seconds = next((float(text) for text in sys.argv[1:] if text.replace(".", "").isdigit()), SECONDS)
    for name in names:
        print(f"{name}: {seconds:.0f} s", flush=True)  # noqa: T201
        print(f"{name}: {TARGETS[name](seconds)} inputs", flush=True)  # noqa: T201
    print("Nothing was found.")  # noqa: T201


if __name__ == "__main__":
    main()
