"""`make bench-serving`: everything that docs/benchmarks.md says about serving's rates and times, by one command.

    python -m tests.bench.serving [--rounds 7] [--seconds 3] [--servers KEY ...] [--models NAME ...] [--clients N ...]

A server that this machine cannot have is left out and said so. The other measurements are programs of their own:
`python -m tests.bench.serving.swaps`, `.idle` and `.overload`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.bench.serving import images, report
from tests.bench.serving.h2load import build_h2load
from tests.bench.serving.models import IMAGES, MODELS, RATED
from tests.bench.serving.rounds import Absence, Bench, Case, Sample
from tests.bench.serving.servers import LABELS, NATIVE, QUIET, RAW, Ground, Server, started
from tests.bench.serving.summary import Figures
from tests.conformance.peers.environments import PeerMissing, say
from tests.integration.ingest_house import running_kafka

CENTRE: Final = "cnn"
"""The model of HTTP, of Python's clients and of the cost of events."""
EVENTS_CLIENTS: Final = 16


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each server in each round")
    parser.add_argument("--servers", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument(
        "--roads", nargs="*", choices=("grpc", "http", "grpc-python"), default=["grpc", "http", "grpc-python"]
    )
    parser.add_argument("--no-events", action="store_true", help="without Kafka; the aims are for events on")
    parser.add_argument("--home", type=Path, default=Path(".irisloop"), help="where peers are kept")
    parser.add_argument("--out", type=Path, default=report.FILE)
    return parser.parse_args(words)


def plan(chosen: argparse.Namespace) -> list[Case]:
    """All cases, in the order measured."""
    rated = [name for name in RATED if name in chosen.models]
    cases = [Case("grpc", model, clients) for model in rated for clients in chosen.clients if "grpc" in chosen.roads]
    if CENTRE in rated and "http" in chosen.roads:
        cases += [Case("http", CENTRE, clients) for clients in chosen.clients if clients <= EVENTS_CLIENTS]
    if CENTRE in rated and "grpc-python" in chosen.roads:
        cases += [Case("grpc-python", CENTRE, clients) for clients in chosen.clients if clients == EVENTS_CLIENTS]
    return cases


def in_case(case: Case, keys: Sequence[str]) -> list[str]:
    """Who takes part: the bare runtime once a model, the quiet twins where the cost of events is measured."""
    centre = case == Case("grpc", CENTRE, EVENTS_CLIENTS)
    left_out = set() if centre else set(QUIET.values())
    if case.road != "grpc" or case.clients != 1:
        left_out.add(RAW)
    if case.road == "http":
        left_out.add(NATIVE)  # its HTTP is the same program
    return [key for key in keys if key not in left_out]


@contextmanager
def running(keys: Sequence[str], ground: Ground) -> Iterator[tuple[dict[str, Server], list[Absence]]]:
    """All that can be had, side by side."""
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        absent: list[Absence] = []
        for key in keys:
            if key == RAW:
                continue
            try:
                servers[key] = stack.enter_context(started(key, ground))
                say(f"{LABELS[key]} runs.")
            except (PeerMissing, RuntimeError, TimeoutError) as error:
                absent.append(Absence(key, "any case", str(error)))
                say(f"{LABELS[key]} is left out: {error}")
        yield servers, absent


def measure(chosen: argparse.Namespace, ground: Ground) -> tuple[Figures, list[Absence]]:
    """All cases, then the images."""
    keys = [key for key in chosen.servers if ground.kafka or key not in QUIET.values()]
    samples: list[Sample] = []
    calls: list[images.ImageSample] = []
    h2load = build_h2load(chosen.home)
    with running(keys, ground) as (servers, absent):
        bench = Bench(servers, h2load, chosen.seconds, say)
        able = [key for key in keys if key in servers or key == RAW]
        for case in plan(chosen):
            taking_part, missing = bench.offered(case, in_case(case, able))
            found, dropped = bench.measure(case, taking_part, chosen.rounds)
            samples += found
            absent += [*missing, *dropped]
        if set(IMAGES) & set(chosen.models):
            loud = {key: server for key, server in servers.items() if key not in QUIET.values()}
            for one in images.measure(loud, chosen.home, chosen.rounds):
                if isinstance(one, Absence):
                    absent.append(one)
                else:
                    calls.append(one)
    return Figures(samples, calls), absent


async def run(chosen: argparse.Namespace) -> dict[str, object]:
    """With Kafka beside, where events are on."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="irisloop-bench-")))
        kafka = ""
        if not chosen.no_events:
            kafka = (await stack.enter_async_context(running_kafka(folder / "kafka"))).bootstrap_servers
        ground = Ground(chosen.home.resolve(), folder, [MODELS[name] for name in chosen.models], kafka)
        figures, absent = await asyncio.to_thread(measure, chosen, ground)
    command = " ".join(["python -m tests.bench.serving", *sys.argv[1:]])
    return report.collect(figures, absent, report.Circumstances(command, chosen.rounds, chosen.seconds, bool(kafka)))


def main() -> None:
    """Measure, write, show."""
    chosen = parse()
    found = asyncio.run(run(chosen))
    report.write(found, chosen.out)
    report.show(found)


if __name__ == "__main__":
    main()
