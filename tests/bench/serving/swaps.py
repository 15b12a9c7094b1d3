"""Fifty swaps of the 84 MB model under sixteen clients: what failed, how long calls took, what memory was left.

    python -m tests.bench.serving.swaps [--swaps 50] [--clients 16] [--servers KEY ...] [--how versions|overwrite]

Every swap brings another file: its bias is its own number, so that each answer shows which weights gave it. The file is
written first; then comes a second that is measured as "before", then RepositoryModelLoad, and the second from its
beginning on (all of the swap, where it takes longer).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from inference import grpc_service_pb2 as pb
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from onnx import numpy_helper

from tests.bench.serving import report, runtime
from tests.bench.serving.models import MODELS
from tests.bench.serving.processes import Memory, memory
from tests.bench.serving.repositories import write_version
from tests.bench.serving.servers import IRISLOOP, LABELS, NATIVE, TRITON, Ground, Server, repository_of, started
from tests.bench.serving.steady import Call, Steady
from tests.conformance.peers.environments import say

MODEL: Final = "big"
FILE: Final = Path(".irisloop/bench/swaps.json")
WINDOW_S: Final = 1.0
SETTLE_S: Final = 1.0
WARM_UP_S: Final = 5.0
REST_S: Final = 10.0
LOAD_TIMEOUT_S: Final = 120.0
FAR: Final = 0.01
"""Two versions' first numbers differ by one."""
P99_AIM: Final = 2.0
MEMORY_AIM: Final = 0.05


@dataclass(frozen=True, slots=True)
class Swap:
    """`begun` by the monotonic clock, and how long RepositoryModelLoad took, seconds."""

    begun: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of all swaps of one server; times in milliseconds, pooled over the swaps."""

    server: str
    swaps: int
    calls: int
    failed: int
    wrong: int
    versions_seen: int
    before_p99_ms: float
    during_p99_ms: float
    p99_ratio: float
    swap_median_ms: float
    swap_longest_ms: float
    memory_start_mb: float
    memory_end_mb: float
    memory_growth: float

    def aims(self) -> dict[str, bool]:
        """What was asked for, and whether it came out."""
        return {
            "no call failed, none was answered by other weights than its version's": not (self.failed or self.wrong),
            f"p99 in the second of the swap <= {P99_AIM:g}x of before": self.p99_ratio <= P99_AIM,
            f"memory within {MEMORY_AIM:.0%} of the start": abs(self.memory_growth) <= MEMORY_AIM,
        }


class Versions:
    """model.onnx of each number: the same graph, another bias."""

    def __init__(self) -> None:
        self._graph = MODELS[MODEL].graph(0)
        self._bias = next(one for one in self._graph.graph.initializer if one.name == "bias")
        self._size = MODELS[MODEL].answer_shape[0]

    def file(self, version: int) -> bytes:
        """84 MB."""
        changed = numpy_helper.from_array(np.full(self._size, version, np.float32), "bias")
        self._bias.CopyFrom(changed)
        return bytes(self._graph.SerializeToString())


def swap_all(server: Server, folder: Path, swaps: int, python: bool, overwrite: bool) -> list[Swap]:
    """One after the other, each on time."""
    versions, found = Versions(), []
    with grpc.insecure_channel(server.grpc) as channel:
        stub: Any = GRPCInferenceServiceStub(channel)
        for number in range(2, swaps + 2):
            _place(folder, 1 if overwrite else number, versions.file(number), python)
            time.sleep(SETTLE_S + WINDOW_S)
            begun = time.monotonic()
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=MODEL), timeout=LOAD_TIMEOUT_S)
            found.append(Swap(begun, time.monotonic() - begun))
            time.sleep(max(0.0, begun + WINDOW_S - time.monotonic()))
            if not overwrite:
                shutil.rmtree(folder / str(number - 1))
            say(f"swap {number - 1} of {swaps}: {found[-1].seconds * 1000:.0f} ms")
    return found


def _place(folder: Path, version: int, content: bytes, python: bool) -> None:
    """A version folder; one that is there gets the new file in its place, in one step."""
    if not (folder / str(version)).exists():
        write_version(folder, version, content, python)
        return
    name = "weights.onnx" if python else "model.onnx"
    part = folder / f".{name}.part"
    part.write_bytes(content)
    part.rename(folder / str(version) / name)


def measure(key: str, ground: Ground, swaps: int, clients: int, overwrite: bool) -> Outcome:
    """One server."""
    with started(key, ground) as server:
        folder = repository_of(key, ground) / MODEL
        with Steady(server.grpc, MODEL, clients) as steady:
            time.sleep(WARM_UP_S)
            start = memory(server.pid)
            made = swap_all(server, folder, swaps, key == TRITON, overwrite)
            time.sleep(REST_S)
            end = memory(server.pid)
    return outcome(key, made, steady.calls, start, end, overwrite)


def outcome(
    key: str, swaps: Sequence[Swap], calls: Sequence[Call], start: Memory, end: Memory, overwrite: bool = False
) -> Outcome:
    """Calls belong to the window in which they ended."""
    before = _pooled(calls, [(swap.begun - WINDOW_S, swap.begun) for swap in swaps])
    during = _pooled(calls, [(swap.begun, swap.begun + max(WINDOW_S, swap.seconds)) for swap in swaps])
    p99s = [float(np.quantile(times, 0.99)) * 1000 for times in (before, during)]
    taken = [swap.seconds * 1000 for swap in swaps]
    good = [call for call in calls if not call.error]
    return Outcome(
        server=key,
        swaps=len(swaps),
        calls=len(calls),
        failed=len(calls) - len(good),
        wrong=sum(_is_wrong(call, overwrite, len(swaps)) for call in good),
        versions_seen=len({round(_bias(call)) for call in good}),
        before_p99_ms=round(p99s[0], 2),
        during_p99_ms=round(p99s[1], 2),
        p99_ratio=round(p99s[1] / p99s[0], 3),
        swap_median_ms=round(float(np.median(taken)), 1),
        swap_longest_ms=round(max(taken), 1),
        memory_start_mb=round(start.pss / 1e6, 1),
        memory_end_mb=round(end.pss / 1e6, 1),
        memory_growth=round(end.pss / start.pss - 1, 4),
    )


def _bias(call: Call) -> float:
    return call.first - float(runtime.answer(MODEL).reshape(-1)[0])


def _is_wrong(call: Call, overwrite: bool, swaps: int) -> bool:
    """The first file's bias is 0, whatever its version; an overwritten version says nothing about its weights."""
    bias = _bias(call)
    if overwrite:
        return abs(bias - round(bias)) > FAR or round(bias) not in {0, *range(2, swaps + 2)}
    expected = 0 if call.version == "1" else int(call.version)
    return abs(bias - expected) > FAR


def _pooled(calls: Sequence[Call], windows: Sequence[tuple[float, float]]) -> list[float]:
    ends = np.array([call.end for call in calls])
    order = np.argsort(ends)
    ends = ends[order]
    found: list[float] = []
    for window in windows:
        low, high = np.searchsorted(ends, window)
        found += [calls[int(place)].seconds for place in order[low:high]]
    return found


def markdown(found: Sequence[Outcome]) -> str:
    """For docs/benchmarks.md."""
    lines = [
        "| server | swaps | calls | failed | wrong | p99 before, ms | in the second of the swap | x | a swap, ms | "
        "memory before, MB | after | |",
        "|" + "---|" * 12,
    ]
    for one in found:
        cells = [LABELS[one.server], one.swaps, one.calls, one.failed, one.wrong, one.before_p99_ms]
        cells += [one.during_p99_ms, f"{one.p99_ratio:.2f}", one.swap_median_ms]
        cells += [one.memory_start_mb, one.memory_end_mb, f"{one.memory_growth:+.1%}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.swaps")
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--servers", nargs="+", choices=(IRISLOOP, NATIVE, TRITON), default=[IRISLOOP, NATIVE])
    parser.add_argument("--how", choices=("versions", "overwrite"), default="versions")
    parser.add_argument("--home", type=Path, default=Path(".irisloop"))
    parser.add_argument("--out", type=Path, default=FILE)
    chosen = parser.parse_args()
    found = []
    for key in chosen.servers:
        with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
            ground = Ground(chosen.home.resolve(), Path(folder), [MODELS[MODEL]], control=("--load-model", MODEL))
            found.append(measure(key, ground, chosen.swaps, chosen.clients, chosen.how == "overwrite"))
    names = [LABELS[one.server] for one in found]
    report.conclude("servers", found, names, markdown(found), chosen.out, how=chosen.how)


if __name__ == "__main__":
    main()
