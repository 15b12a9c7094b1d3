"""A hundred loaded models that nobody calls: memory and threads of each.

python -m tests.bench.serving.idle [--count 100] [--model cnn] [--servers KEY ...]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc
from inference import grpc_service_pb2 as pb
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub

from tests.bench.serving import report
from tests.bench.serving.models import MODELS, BenchModel
from tests.bench.serving.processes import memory, threads
from tests.bench.serving.servers import IRISLOOP, LABELS, NATIVE, TRITON, Ground, started
from tests.conformance.peers.environments import say

FILE: Final = Path(".irisloop/bench/idle.json")
REST_S: Final = 5.0
TIMES_FILE: Final = 1.2
MORE_MB: Final = 5.0
FEW_THREADS: Final = 0.1
"""Threads a model that are none: a pool may have grown while they were loaded."""
MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Outcome:
    """Megabytes are proportional set size."""

    server: str
    models: int
    file_mb: float
    memory_empty_mb: float
    memory_loaded_mb: float
    mb_each: float
    bound_mb: float
    threads_empty: int
    threads_loaded: int

    def aims(self) -> dict[str, bool]:
        """What was asked for, and whether it came out."""
        grown = (self.threads_loaded - self.threads_empty) / self.models
        return {
            f"memory of a model <= {TIMES_FILE:g}x its file + {MORE_MB:g} MB": self.mb_each <= self.bound_mb,
            "no thread for each model": grown <= FEW_THREADS,
        }


def copies(model: BenchModel, count: int) -> list[BenchModel]:
    """The model under many names, each with weights of its own."""
    return [
        replace(model, name=f"{model.name}-{number}", graph=lambda _, seed=number: model.graph(seed))  # type: ignore[misc]
        for number in range(1, count + 1)
    ]


def measure(key: str, ground: Ground) -> Outcome:
    """One server: empty, then with all."""
    with started(key, ground) as server, grpc.insecure_channel(server.grpc) as channel:
        stub: Any = GRPCInferenceServiceStub(channel)
        time.sleep(REST_S)
        empty, alone = memory(server.pid).pss / MB, threads(server.pid)
        for model in ground.models:
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=model.name), timeout=120)
        say(f"{LABELS[key]}: {len(ground.models)} models are loaded.")
        time.sleep(REST_S)
        loaded, together = memory(server.pid).pss / MB, threads(server.pid)
    size = sum(len(model.file()) for model in ground.models) / len(ground.models) / MB
    return Outcome(
        server=key,
        models=len(ground.models),
        file_mb=round(size, 3),
        memory_empty_mb=round(empty, 1),
        memory_loaded_mb=round(loaded, 1),
        mb_each=round((loaded - empty) / len(ground.models), 3),
        bound_mb=round(TIMES_FILE * size + MORE_MB, 3),
        threads_empty=alone,
        threads_loaded=together,
    )


def markdown(found: Sequence[Outcome]) -> str:
    """For docs/benchmarks.md."""
    lines = [
        "| server | models | file, MB | memory of a model, MB | bound | threads without them | with them |",
        "|" + "---|" * 7,
    ]
    for one in found:
        cells = [LABELS[one.server], one.models, one.file_mb, one.mb_each, one.bound_mb]
        lines.append("| " + " | ".join(map(str, [*cells, one.threads_empty, one.threads_loaded])) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.idle")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--servers", nargs="+", choices=(IRISLOOP, NATIVE, TRITON), default=[IRISLOOP])
    parser.add_argument("--home", type=Path, default=Path(".irisloop"))
    parser.add_argument("--out", type=Path, default=FILE)
    chosen = parser.parse_args()
    found = []
    for key in chosen.servers:
        with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
            models = copies(MODELS[chosen.model], chosen.count)
            found.append(measure(key, Ground(chosen.home.resolve(), Path(folder), models, control=())))
    names = [LABELS[one.server] for one in found]
    report.conclude("servers", found, names, markdown(found), chosen.out)


if __name__ == "__main__":
    main()
