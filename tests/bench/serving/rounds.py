"""Measures cases: every server in turn within a round, so that what else the machine does falls on all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tests.bench.serving import payloads, python_load, runtime
from tests.bench.serving.h2load import H2load, Load
from tests.bench.serving.models import MODELS, BenchModel
from tests.bench.serving.processes import cpu_seconds
from tests.bench.serving.servers import LABELS, RAW, Server

Road = Literal["grpc", "http", "grpc-python"]
"""h2load over gRPC; h2load over HTTP/1.1 with binary tensors; grpc.aio."""
ROADS: Final[Mapping[Road, str]] = {
    "grpc": "gRPC (h2load)",
    "http": "HTTP binary (h2load)",
    "grpc-python": "gRPC (grpc.aio clients)",
}
REST_S: Final = 0.3
RESTING: Final = 0.15
"""Of a core: a server that rests still polls Kafka."""
SETTLED_AFTER_S: Final = 15.0
WARM_UP_S: Final = 1.0
ANSWERED: Final = 0.98
"""Share of the expected bytes that must have come: errors have no body, and the last calls are cut off by the clock."""


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """What is asked of all servers in the same way."""

    road: Road
    model: str
    clients: int

    def __str__(self) -> str:
        return f"{self.model}, {ROADS[self.road]}, {self.clients} client{'s' if self.clients > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One server in one round of one case. `cpu_us` is the server's CPU time a request, microseconds."""

    server: str
    case: Case
    turn: int
    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Absence:
    """A server that is not in a case, and why."""

    server: str
    case: str
    reason: str


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers that run, and the load generator."""

    servers: Mapping[str, Server]
    h2load: H2load
    seconds: float
    say: Callable[[str], None]

    def offered(self, case: Case, chosen: Sequence[str]) -> tuple[list[str], list[Absence]]:
        """Who answers this case rightly, and why others do not."""
        able, absent = [], []
        for key in chosen:
            try:
                if key != RAW:
                    self._check(self.servers[key], case)
                able.append(key)
            except (payloads.Unoffered, payloads.Wrong, OSError) as error:
                absent.append(Absence(key, str(case), str(error)))
        return able, absent

    def measure(self, case: Case, chosen: Sequence[str], rounds: int) -> tuple[list[Sample], list[Absence]]:
        """Rounds, each in another order. Who answers wrongly in one of them is not in the case at all."""
        order = random.Random(str(case))
        found: dict[str, list[Sample]] = {key: [] for key in chosen}
        absent: list[Absence] = []
        for turn in range(-1, rounds):  # the first warms up
            for key in order.sample(list(found), len(found)):
                try:
                    load, cpu = self.run(key, case, self.seconds if turn >= 0 else WARM_UP_S)
                except payloads.Wrong as error:
                    absent.append(Absence(key, str(case), str(error)))
                    del found[key]
                    continue
                found[key] += [_sample(key, case, turn, load, cpu)] if turn >= 0 else []
            self.say(f"{case}: round {turn + 1} of {rounds}")
        return [sample for samples in found.values() for sample in samples], absent

    def run(self, key: str, case: Case, seconds: float) -> tuple[Load, float]:
        """One run, and the server's CPU seconds. Raises `Wrong` when not every answer was a good one."""
        if key == RAW:
            return runtime.run(case.model, seconds)
        server = self.servers[key]
        size = self._check(server, case)
        before, cpu = _counted(server, case.model), cpu_seconds(server.pid)
        load = self._load(server, case, seconds)
        settle(server.pid)
        cpu = cpu_seconds(server.pid) - cpu
        _require(key, case, load, size, before, _counted(server, case.model))
        self._check(server, case)
        return load, cpu

    def _check(self, server: Server, case: Case) -> int:
        model, expected = MODELS[case.model], runtime.answer(case.model)
        if case.road == "http":
            return payloads.check_http(server, model, expected)
        return payloads.check_grpc(server, model, expected)

    def _load(self, server: Server, case: Case, seconds: float) -> Load:
        model: BenchModel = MODELS[case.model]
        if case.road == "grpc-python":
            message = payloads.infer_request(model, model.sample())
            return python_load.run(server.grpc, message, case.clients, seconds)
        http = case.road == "http"
        target = payloads.http_target(server, model) if http else payloads.grpc_target(server.grpc, model)
        return self.h2load.run(target, case.clients, seconds)


def settle(pid: int) -> None:
    """Wait until a server rests: what it puts off until after the answers is its own time, and not the next one's."""
    used, deadline = cpu_seconds(pid), time.monotonic() + SETTLED_AFTER_S
    while time.monotonic() < deadline:
        time.sleep(REST_S)
        now = cpu_seconds(pid)
        if now - used < RESTING * REST_S:
            return
        used = now


def _counted(server: Server, model: str) -> tuple[int, int] | None:
    try:
        return payloads.counted(server, model)
    except payloads.Unoffered:
        return None


def _require(
    key: str, case: Case, load: Load, size: int, before: tuple[int, int] | None, after: tuple[int, int] | None
) -> None:
    """h2load sees HTTP's 200 and not gRPC's status: bodies and the server's own counts tell whether calls failed."""
    if not load.answered:
        raise payloads.Wrong(f"{LABELS[key]}, {case}: no answer within {load.seconds:g} s")
    if load.failed or load.data_bytes < ANSWERED * size * load.answered:
        share = load.data_bytes / (size * load.answered)
        raise payloads.Wrong(f"{LABELS[key]}, {case}: {load.failed} calls failed, {share:.1%} of the bytes came")
    if before is None or after is None:
        return
    succeeded, failed = after[0] - before[0], after[1] - before[1]
    # Calls that the generator's end cuts off may count as failed, or not at all.
    if failed > case.clients or succeeded < ANSWERED * load.answered:
        raise payloads.Wrong(
            f"{LABELS[key]}, {case}: {load.answered} answers, but the server counts {succeeded} and {failed} failed"
        )


def _sample(key: str, case: Case, turn: int, load: Load, cpu: float) -> Sample:
    milliseconds = [load.quantile(share) * 1000 for share in (0.5, 0.99)]
    return Sample(key, case, turn, load.rate, cpu * 1e6 / load.answered, milliseconds[0], milliseconds[1])
