"""Twice what the server can do, by the clock, for thirty seconds: what it still gets done, and how it refuses the rest.

    python -m tests.bench.serving.overload [--seconds 30] [--times 2] [--queue-ms 100] [--servers KEY ...]

The capacity is measured first, in a closed loop. The model has a queue with a time limit (default_queue_policy with
REJECT); meanwhile a client asks ten times a second, to see how a refusal looks.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc
from inference import grpc_service_pb2 as pb
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub

from tests.bench.serving import flood, payloads, report, runtime
from tests.bench.serving.h2load import H2load, build_h2load
from tests.bench.serving.models import MODELS
from tests.bench.serving.servers import IRISLOOP, LABELS, NATIVE, TRITON, Ground, Server, started
from tests.conformance.peers.environments import say

FILE: Final = Path(".irisloop/bench/overload.json")
CAPACITY_CLIENTS: Final = (16, 64)
CAPACITY_S: Final = 4.0
ASK_EVERY_S: Final = 0.1
GOODPUT_AIM: Final = 0.8
REFUSAL: Final = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one server; `codes` are the asking client's, `hinted` its refusals that say when to try again."""

    server: str
    model: str
    capacity: float
    offered: float
    goodput: float
    share: float
    refused: int
    unanswered: int
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused_p99_ms: float
    queue_ms: float
    batch_ms: float
    generator_lag_ms: float
    codes: dict[str, int]
    hinted: int
    well_afterwards: str
    """Empty, or what a call got instead of a right answer when the flood was over."""

    def aims(self) -> dict[str, bool]:
        """What was asked for, and whether it came out."""
        bound = self.queue_ms + 2 * self.batch_ms
        return {
            f"goodput >= {GOODPUT_AIM:g} of the capacity": self.share >= GOODPUT_AIM,
            f"p99 of what is accepted <= queue limit + 2 batch times ({bound:.1f} ms)": self.accepted_p99_ms <= bound,
            "every call is answered, refusals with UNAVAILABLE": not self.unanswered
            and set(self.codes) <= {"OK", REFUSAL},
            "the server is well afterwards": not self.well_afterwards,
        }


def queue_policy(limit_ms: float, most: int) -> str:
    """For config.pbtxt."""
    policy = f"default_timeout_microseconds: {limit_ms * 1000:.0f} timeout_action: REJECT max_queue_size: {most}"
    return f"dynamic_batching {{ default_queue_policy {{ {policy} }} }}"


def capacity(server: Server, model: str, h2load: H2load) -> float:
    """The best of some closed loops, calls a second."""
    target = payloads.grpc_target(server.grpc, MODELS[model])
    h2load.run(target, CAPACITY_CLIENTS[0], CAPACITY_S / 2)
    return max(h2load.run(target, clients, CAPACITY_S).rate for clients in CAPACITY_CLIENTS)


def batch_ms(server: Server, model: str) -> float:
    """The longest mean run among batch sizes, by ModelStatistics."""
    with grpc.insecure_channel(server.grpc) as channel:
        stub: Any = GRPCInferenceServiceStub(channel)
        answer = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model))
    times = [
        (one.compute_input.ns + one.compute_infer.ns + one.compute_output.ns) / one.compute_infer.count
        for stats in answer.model_stats
        for one in stats.batch_stats
        if one.compute_infer.count
    ]
    return max(times, default=0.0) / 1e6


@dataclass(slots=True)
class Asked:
    """What a client saw meanwhile."""

    codes: Counter[str]
    hinted: int = 0


@contextmanager
def asking(server: Server, model: str) -> Iterator[Asked]:
    """A client of its own connection, ten calls a second, until the block ends."""
    asked, ended = Asked(Counter()), threading.Event()

    def ask() -> None:
        message = payloads.infer_request(MODELS[model], MODELS[model].sample())
        with grpc.insecure_channel(server.grpc) as channel:
            call: Any = channel.unary_unary(payloads.INFER)
            while not ended.wait(ASK_EVERY_S):
                try:
                    call(message, timeout=payloads.TIMEOUT_S)
                    asked.codes["OK"] += 1
                except grpc.RpcError as error:
                    asked.codes[error.code().name] += 1
                    trailing: Any = error.trailing_metadata() or ()
                    asked.hinted += any("retry" in key for key, _ in trailing)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join()


def measure(key: str, ground: Ground, h2load: H2load, chosen: argparse.Namespace) -> Outcome:
    """One server."""
    with started(key, ground) as server:
        payloads.check_grpc(server, MODELS[chosen.model], runtime.answer(chosen.model))
        able = capacity(server, chosen.model, h2load)
        say(f"{LABELS[key]}: capacity {able:,.0f}/s")
        message = payloads.infer_request(MODELS[chosen.model], MODELS[chosen.model].sample())
        with asking(server, chosen.model) as asked:
            found = flood.run(server.grpc, message, able * chosen.times, chosen.seconds)
        batch, after = batch_ms(server, chosen.model), _afterwards(server, chosen.model)
    return replace(
        outcome_of(key, found, able, chosen),
        batch_ms=round(batch, 3),
        codes=dict(asked.codes),
        hinted=asked.hinted,
        well_afterwards=after,
    )


def _afterwards(server: Server, model: str) -> str:
    try:
        payloads.check_grpc(server, MODELS[model], runtime.answer(model))
    except (payloads.Unoffered, payloads.Wrong) as error:
        return str(error)
    return ""


def outcome_of(key: str, found: flood.Flood, able: float, chosen: argparse.Namespace) -> Outcome:
    """Without what the server and the asking client say."""
    goodput = len(found.accepted) / chosen.seconds
    return Outcome(
        server=key,
        model=chosen.model,
        capacity=round(able, 1),
        offered=round(found.due / chosen.seconds, 1),
        goodput=round(goodput, 1),
        share=round(goodput / able, 3),
        refused=len(found.refused),
        unanswered=found.unanswered,
        accepted_p50_ms=_quantile_ms(found.accepted, 0.5),
        accepted_p99_ms=_quantile_ms(found.accepted, 0.99),
        refused_p99_ms=_quantile_ms(found.refused, 0.99),
        queue_ms=chosen.queue_ms,
        batch_ms=0.0,
        generator_lag_ms=round(found.lag_s * 1000, 2),
        codes={},
        hinted=0,
        well_afterwards="",
    )


def _quantile_ms(taken: Sequence[float], share: float) -> float:
    return round(taken[min(int(len(taken) * share), len(taken) - 1)] * 1000, 2) if taken else 0.0


def markdown(found: Sequence[Outcome]) -> str:
    """For docs/benchmarks.md."""
    lines = [
        "| server | capacity/s | offered/s | goodput/s | share | p50 of accepted, ms | p99 | queue limit, ms | "
        "longest batch, ms | refused | p99, ms | codes seen |",
        "|" + "---|" * 12,
    ]
    for one in found:
        cells = [LABELS[one.server], f"{one.capacity:,.0f}", f"{one.offered:,.0f}", f"{one.goodput:,.0f}"]
        cells += [f"{one.share:.0%}", str(one.accepted_p50_ms), str(one.accepted_p99_ms), f"{one.queue_ms:g}"]
        cells += [str(one.batch_ms), f"{one.refused:,}", str(one.refused_p99_ms)]
        codes = ", ".join(f"{code} {count}" for code, count in one.codes.items())
        lines.append("| " + " | ".join([*cells, codes]) + " |")
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.overload")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--times", type=float, default=2.0, help="of the measured capacity")
    parser.add_argument("--queue-ms", type=float, default=100.0, help="the queue's time limit")
    parser.add_argument("--queue-size", type=int, default=1024, help="the queue's most requests")
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--servers", nargs="+", choices=(IRISLOOP, NATIVE, TRITON), default=[IRISLOOP, NATIVE])
    parser.add_argument("--home", type=Path, default=Path(".irisloop"))
    parser.add_argument("--out", type=Path, default=FILE)
    return parser.parse_args(words)


def main() -> None:
    """Measure, write, show."""
    chosen = parse()
    h2load, found = build_h2load(chosen.home), []
    for key in chosen.servers:
        with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
            config = queue_policy(chosen.queue_ms, chosen.queue_size)
            ground = Ground(chosen.home.resolve(), Path(folder), [MODELS[chosen.model]], config=config)
            found.append(measure(key, ground, h2load, chosen))
    names = [LABELS[one.server] for one in found]
    report.conclude("servers", found, names, markdown(found), chosen.out)


if __name__ == "__main__":
    main()
