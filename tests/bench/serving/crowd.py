"""Ten thousand idle connections, two hundred slow readers and two hundred calls that never end: how well are others
served meanwhile, and what does it cost in memory?

    python -m tests.bench.serving.crowd [--idle 10000] [--slow 200] [--half 200] [--answer-kib 256]
        [--roads grpcio pygrpc http]

Slow readers ask for a large answer and read a byte each 50 ms. Usual clients with connections of their own call a small
model before, meanwhile and afterwards. The server is started with the limit of open files that systems usually set.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from onnx import ModelProto, checker, helper, numpy_helper

from tests.bench.serving import payloads, report, runtime
from tests.bench.serving.crowding import Crowd, Report
from tests.bench.serving.h2load import H2load, build_h2load
from tests.bench.serving.models import ELEMENTS, INPUT, IR_VERSION, MODELS, OPSET, OUTPUT, BenchModel
from tests.bench.serving.processes import memory
from tests.bench.serving.servers import IRISLOOP, NATIVE, Ground, Server, started
from tests.bench.serving.steady import Steady
from tests.conformance.peers.environments import say

FILE: Final = Path(".irisloop/bench/crowd.json")
SMALL: Final = "mlp"
CLIENTS: Final = 4
WIDTH: Final = 64
SOFT_LIMIT: Final = 1024
"""Of open files."""
SETTLE_S: Final = 3.0
SECONDS: Final = 15.0
MEMORY_AIM_MB: Final = 300.0
ROADS: Final = {"grpcio": IRISLOOP, "pygrpc": NATIVE, "http": IRISLOOP}
"""Where the crowd comes from, and the server that it comes to."""


def wide(kib: int) -> BenchModel:
    """Its input again and again: a small call with a large answer."""
    times = (kib << 10) // (4 * WIDTH)

    def graph(_: int) -> ModelProto:
        made = helper.make_graph(
            [helper.make_node("Tile", [INPUT, "times"], [OUTPUT])],
            "wide",
            [helper.make_tensor_value_info(INPUT, ELEMENTS["FP32"], ["batch", WIDTH])],
            [helper.make_tensor_value_info(OUTPUT, ELEMENTS["FP32"], ["batch", WIDTH * times])],
            [numpy_helper.from_array(np.array([1, times], np.int64), "times")],
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        checker.check_model(model)
        return model

    return BenchModel("wide", "FP32", (WIDTH,), "FP32", (WIDTH * times,), graph)


@dataclass(frozen=True, slots=True)
class Usual:
    """What the usual client got."""

    answered: int
    failed: int
    rate: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one road; megabytes are proportional set size."""

    road: str
    before: Usual
    meanwhile: Usual
    afterwards: Usual
    memory_before_mb: float
    memory_meanwhile_mb: float
    memory_afterwards_mb: float
    crowd: dict[str, Report]

    def aims(self) -> dict[str, bool]:
        """What was asked for, and whether it came out."""
        return {
            "others are served, without an error": not (self.meanwhile.failed or self.afterwards.failed)
            and self.meanwhile.answered > 0,
            f"memory at most +{MEMORY_AIM_MB:g} MB": self.memory_meanwhile_mb - self.memory_before_mb <= MEMORY_AIM_MB,
            "every idle connection was taken": all(
                one.made == one.wanted for kind, one in self.crowd.items() if kind.endswith("idle")
            ),
        }


def usual(road: str, server: Server, h2load: H2load) -> Usual:
    """Some clients on a closed loop, for a while."""
    if road == "http":
        load = h2load.run(payloads.http_target(server, MODELS[SMALL]), CLIENTS, SECONDS)
        return Usual(load.answered, load.failed, *_rounded(load.rate, load.quantile(0.5), load.quantile(0.99)))
    with Steady(server.grpc, SMALL, CLIENTS) as steady:
        time.sleep(SECONDS)
    good = sorted(call.seconds for call in steady.calls if not call.error)
    if not good:
        return Usual(0, len(steady.calls), 0.0, 0.0, 0.0)
    figures = _rounded(len(good) / SECONDS, good[len(good) // 2], good[int(len(good) * 0.99)])
    return Usual(len(good), len(steady.calls) - len(good), *figures)


def _rounded(rate: float, p50: float, p99: float) -> tuple[float, float, float]:
    return round(rate, 1), round(p50 * 1000, 2), round(p99 * 1000, 2)


def request_bytes(server: Server, model: BenchModel) -> bytes:
    """A call over HTTP/1.1, from its request line on."""
    target = payloads.http_target(server, model)
    headers = [("host", "AUTHORITY"), ("content-length", str(len(target.body))), *target.headers]
    lines = [f"POST {urlsplit(target.url).path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode() + target.body


def crowd_of(road: str, server: Server, chosen: argparse.Namespace) -> Crowd:
    """Not there before it is entered."""
    kinds = [("idle", chosen.idle), ("slow", chosen.slow), ("half", chosen.half)]
    model = wide(chosen.answer_kib)
    if road == "http":
        return Crowd(server.http, [(f"http-{kind}", count) for kind, count in kinds], request_bytes(server, model))
    body = payloads.infer_request(model, model.sample())
    return Crowd(server.grpc, [(f"grpc-{kind}", count) for kind, count in kinds], body)


def measure(road: str, ground: Ground, h2load: H2load, chosen: argparse.Namespace) -> Outcome:
    """Before, meanwhile, afterwards."""
    with started(ROADS[road], ground) as server:
        payloads.check_grpc(server, MODELS[SMALL], runtime.answer(SMALL))
        usual(road, server, h2load)
        before, empty = usual(road, server, h2load), memory(server.pid).pss / 1e6
        crowd = crowd_of(road, server, chosen)
        with crowd:
            say(f"{road}: the crowd is there.")
            time.sleep(SETTLE_S)
            meanwhile, full = usual(road, server, h2load), memory(server.pid).pss / 1e6
            time.sleep(chosen.stay)
        say(f"{road}: the crowd has gone.")
        time.sleep(SETTLE_S)
        afterwards, left = usual(road, server, h2load), memory(server.pid).pss / 1e6
    sizes = (round(empty, 1), round(full, 1), round(left, 1))
    return Outcome(road, before, meanwhile, afterwards, *sizes, crowd.reports)


def markdown(found: Sequence[Outcome]) -> str:
    """For docs/benchmarks.md."""
    lines = [
        "| road | idle, slow, half: wanted | there | at the end | others' calls/s before | meanwhile | afterwards | "
        "failed | p50 before, ms | meanwhile | p99 before, ms | meanwhile | MB before | meanwhile | afterwards |",
        "|" + "---|" * 15,
    ]
    for one in found:
        crowd = list(one.crowd.values())
        cells: list[Any] = [one.road, ", ".join(f"{part.wanted:,}" for part in crowd)]
        cells += [", ".join(f"{part.made:,}" for part in crowd), ", ".join(f"{part.alive:,}" for part in crowd)]
        cells += [f"{part.rate:,.0f}" for part in (one.before, one.meanwhile, one.afterwards)]
        cells += [one.meanwhile.failed + one.afterwards.failed, one.before.p50_ms, one.meanwhile.p50_ms]
        cells += [one.before.p99_ms, one.meanwhile.p99_ms, one.memory_before_mb, one.memory_meanwhile_mb]
        lines.append("| " + " | ".join(map(str, [*cells, one.memory_afterwards_mb])) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.crowd")
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--half", type=int, default=200)
    parser.add_argument("--answer-kib", type=int, default=256)
    parser.add_argument("--stay", type=float, default=0.0, help="seconds that the crowd stays after it was measured")
    parser.add_argument("--roads", nargs="+", choices=ROADS, default=list(ROADS))
    parser.add_argument("--home", type=Path, default=Path(".irisloop"))
    parser.add_argument("--out", type=Path, default=FILE)
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    h2load, found = build_h2load(chosen.home), []
    for road in chosen.roads:
        with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
            ground = Ground(chosen.home.resolve(), Path(folder), [MODELS[SMALL], wide(chosen.answer_kib)])
            found.append(measure(road, ground, h2load, chosen))
    names = [one.road for one in found]
    report.conclude("roads", found, names, markdown(found), chosen.out)


if __name__ == "__main__":
    main()
