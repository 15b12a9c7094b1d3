"""What a version in shadow costs those who are answered: half of the capacity in an open loop, then all of it.

    python -m tests.bench.serving.shadow [--pairs 15] [--seconds 3]

One serving on a real Kafka follows registry's messages: in turn without a rollout, and with a challenger in shadow. The
two orders alternate. Compared is the share of the answers that have a partner.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2, serving_pb2_grpc
from irisloop.topics import ALIASES_PUBLISHED
from irisloop.trainer.v1 import trainer_pb2
from rich.progress import track

from services.common.bus import Event, KafkaBus, derive_id
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings
from tests.bench.serving import flood, payloads, report
from tests.bench.serving.h2load import H2load, build_h2load
from tests.bench.serving.models import MODELS
from tests.bench.serving.registered import package_files
from tests.bench.serving.rounds import settle
from tests.integration.ingest_house import running_kafka
from tests.integration.serving_house import ServingProcess, followed, running_serving
from tests.unit.serving import tiny

FILE: Final = Path(".irisloop/bench/shadow.json")
MODEL: Final = "cnn"
CLIENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Turn:
    """One way of serving, once: half load, then a closed loop."""

    p50_ms: float
    p99_ms: float
    rate: float
    compared: float
    """Share of the answers at half load, 0 where none was wanted."""


@dataclass
class Bench:
    """The serving under measurement, and the words that it follows."""

    serving: ServingProcess
    bus: KafkaBus
    packages: list[trainer_pb2.ModelPackage]
    h2load: H2load
    revision: int = 0

    async def publish(self, shadow: bool) -> None:
        """Version 1 is champion; version 2 is its shadow, or is not there."""
        self.revision += 1
        champion = registry_pb2.ModelVersion(model=MODEL, version="1", package=self.packages[0])
        value = registry_pb2.AliasesPublished(model=MODEL, revision=self.revision)
        value.aliases.add(name="champion", version=champion)
        if shadow:
            value.rollout.CopyFrom(
                registry_pb2.Rollout(
                    id="r", model=MODEL, champion="1", challenger="2", stage=registry_pb2.STAGE_SHADOW, salt="r"
                )
            )
            value.rollout_versions.extend(
                [champion, registry_pb2.ModelVersion(model=MODEL, version="2", package=self.packages[1])]
            )
        identity = derive_id("aliases", MODEL, str(self.revision))
        await self.bus.publish([Event(ALIASES_PUBLISHED, MODEL, value, identity, datetime.now(UTC))])
        await followed(self.serving, MODEL, self.revision)

    async def counts(self) -> tuple[int, int]:
        """(offered, compared) of the rollout in force."""
        async with grpc.aio.insecure_channel(self.serving.address) as channel:
            stub = serving_pb2_grpc.ServingServiceStub(channel)
            answer = await stub.ListRollouts(serving_pb2.ListRolloutsRequest())
        return next(((one.offered, one.compared) for one in answer.rollouts), (0, 0))

    async def turn(self, capacity: float, seconds: float) -> Turn:
        """Half of the capacity by the clock, then as much as there is."""
        message = payloads.infer_request(MODELS[MODEL], MODELS[MODEL].sample())
        before = await self.counts()
        found = await asyncio.to_thread(flood.run, self.serving.address, message, capacity / 2, seconds)
        after = await self.counts()
        share = (after[1] - before[1]) / max(after[0] - before[0], 1)
        load = await asyncio.to_thread(
            self.h2load.run, payloads.grpc_target(self.serving.address, MODELS[MODEL]), CLIENTS, seconds
        )
        assert self.serving.process is not None
        await asyncio.to_thread(settle, self.serving.process.pid)
        taken = found.accepted
        return Turn(taken[len(taken) // 2] * 1000, taken[int(len(taken) * 0.99)] * 1000, load.rate, share)


async def measure(bench: Bench, pairs: int, seconds: float) -> dict[str, Any]:
    """All turns, and what they come to."""
    await bench.publish(shadow=True)
    await bench.turn(200.0, seconds)  # warms up, the shadow process too
    load = await asyncio.to_thread(
        bench.h2load.run, payloads.grpc_target(bench.serving.address, MODELS[MODEL]), CLIENTS, seconds
    )
    turns: dict[bool, list[Turn]] = {False: [], True: []}
    for number in track(range(pairs), "shadow"):
        for shadow in (number % 2 == 0, number % 2 == 1):
            await bench.publish(shadow)
            turns[shadow].append(await bench.turn(load.rate, seconds))
    ratios = [with_.p50_ms / without.p50_ms for with_, without in zip(turns[True], turns[False], strict=True)]
    rates = [with_.rate / without.rate for with_, without in zip(turns[True], turns[False], strict=True)]
    return {
        "command": " ".join(sys.argv),
        "capacity": round(load.rate, 1),
        "p50_ratio": round(median(ratios), 3),
        "throughput_ratio": round(median(rates), 3),
        "compared": round(median(one.compared for one in turns[True]), 3),
        "p50_ms": {str(key): round(median(one.p50_ms for one in found), 2) for key, found in turns.items()},
        "p99_ms": {str(key): round(median(one.p99_ms for one in found), 2) for key, found in turns.items()},
        "rate": {str(key): round(median(one.rate for one in found), 1) for key, found in turns.items()},
    }


async def run(pairs: int, seconds: float) -> dict[str, Any]:
    """With a Kafka and a serving of its own."""
    h2load = build_h2load(Path(".irisloop"))
    with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
        home = Path(folder)
        async with running_kafka(home / "kafka") as kafka, running_serving(home / "home", kafka) as serving:
            common = CommonSettings(home=home / "home", kafka=kafka)
            async with KafkaBus(common, "bench") as bus, ObjectStore(common.objects) as objects:
                packages = [await tiny.store(objects, common.home, package_files(seed)) for seed in (1, 2)]
                return await measure(Bench(serving, bus, packages, h2load), pairs, seconds)


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    found = asyncio.run(run(chosen.pairs, chosen.seconds))
    report.write(found, FILE)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
