"""Serving is killed again and again under load: how soon it is ready with the right versions, and what became of the
answers that it had given.

    python -m tests.bench.serving.kill [--kills 10] [--clients 8] [--servers KEY ...]

Three models of registry on the embedded Kafka. Before each kill one of them gets a new champion, and another while
serving is dead. Each call bears a trace of its own, by which its event is looked for.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from inference import grpc_service_pb2 as pb
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import KafkaBus
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings, KafkaSettings
from tests.bench.serving import report
from tests.bench.serving.marked import Account, Call, Marked, account
from tests.bench.serving.outage import drain, metric, on_topic
from tests.bench.serving.registered import crown, package_files
from tests.bench.serving.servers import IRISLOOP, LABELS, NATIVE
from tests.conformance.peers.environments import say
from tests.integration.ingest_house import running_broker
from tests.integration.serving_house import ServingProcess, followed, running_serving
from tests.unit.serving import tiny

FILE: Final = Path(".irisloop/bench/kill.json")
MODELS: Final = ("gate", "belt", "dock")
PACKAGES: Final = 4
LOAD_S: Final = 3.0
POLL_S: Final = 0.01
PATIENCE_S: Final = 60.0
READY_AIM_S: Final = 5.0
LOST_AIM_S: Final = 0.1
DROPPED: Final = "irisloop_serving_direct_dropped_total"


@dataclass(frozen=True, slots=True)
class Kill:
    """Moments by the monotonic clock."""

    killed: float
    ready: float
    """/readyz, and ModelReady of every model in the version that registry last named."""
    wrong_versions: tuple[str, ...]
    """What was not there, or answered otherwise, at that moment."""
    counted: int
    """Calls that the new process says the old one lost."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one transport; a list has an entry a kill."""

    server: str
    kills: int
    answered: int
    ready_s: list[float]
    wrong_versions: list[str]
    wrong_answers: int
    """Answers to calls that began after it was ready, by a version that was nobody's champion any more."""
    missing: list[int]
    counted: list[int]
    oldest_ms: list[float]
    """How long before the kill the first of the missing was answered, by the client's clock."""
    missing_elsewhere: int
    """Answered outside of the last seconds before a kill."""
    doubled: int
    repeats: int
    unanswered: int
    disordered: int
    failed_while_ready: int

    def aims(self) -> dict[str, bool]:
        """What was asked for, and whether it came out."""
        return {
            f"ready within {READY_AIM_S:g} s": max(self.ready_s) <= READY_AIM_S,
            "with the right versions, which answer": not (self.wrong_versions or self.wrong_answers),
            f"answers without an event are of the last {LOST_AIM_S * 1000:g} ms": not self.missing_elsewhere
            and max(self.oldest_ms) <= LOST_AIM_S * 1000,
            "and all of them are counted": all(
                there >= missing for there, missing in zip(self.counted, self.missing, strict=True)
            ),
            "no event doubled, each client's in order": not (self.doubled or self.disordered),
            "no call failed while it was ready": not self.failed_while_ready,
        }


@dataclass
class Reign:
    """Who is champion of what, and since when registry said so."""

    bus: KafkaBus
    packages: Sequence[trainer_pb2.ModelPackage]
    versions: dict[str, str] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    history: list[tuple[float, str, str]] = field(default_factory=list)

    async def crown(self, model: str) -> None:
        """The model's next version; after the last package the first again, as a rollback."""
        revision = self.revisions[model] = self.revisions.get(model, 0) + 1
        place = revision % PACKAGES
        self.versions[model] = str(place + 1)
        await crown(self.bus, model, revision, str(place + 1), self.packages[place])
        self.history.append((time.monotonic(), model, str(place + 1)))


def outcome(key: str, kills: Sequence[Kill], calls: Sequence[Call], found: Account, wrong_answers: int) -> Outcome:
    """A missing call belongs to the kill before which it ended, or just after which its client took note of it."""
    lives = list(zip([0.0, *(kill.ready for kill in kills)], kills, strict=False))
    missing = [[call for call in found.missing if since <= call.end < kill.ready] for since, kill in lives]
    oldest = [
        max((kill.killed - call.end for call in calls), default=0.0) for kill, calls in zip(kills, missing, strict=True)
    ]
    dead = [(kill.killed, kill.ready) for kill in kills]
    return Outcome(
        server=key,
        kills=len(kills),
        answered=found.answered,
        ready_s=[round(kill.ready - kill.killed, 2) for kill in kills],
        wrong_versions=[wrong for kill in kills for wrong in kill.wrong_versions],
        wrong_answers=wrong_answers,
        missing=[len(one) for one in missing],
        counted=[kill.counted for kill in kills],
        oldest_ms=[round(max(0.0, one) * 1000, 1) for one in oldest],
        missing_elsewhere=len(found.missing) - sum(map(len, missing)),
        doubled=found.doubled,
        repeats=found.repeats,
        unanswered=found.unanswered,
        disordered=found.disordered,
        failed_while_ready=sum(
            bool(call.error) and not any(call.end >= start and call.begun <= end for start, end in dead)
            for call in calls
        ),
    )


def wrong_answers(calls: Sequence[Call], history: Sequence[tuple[float, str, str]], kills: Sequence[Kill]) -> int:
    """Calls that began when a process had just become ready, and were answered by another than the champion."""
    wrong = 0
    for kill in kills:
        champions = {model: version for said, model, version in history if said < kill.ready}
        later = min((said for said, _, _ in history if said >= kill.ready), default=float("inf"))
        wrong += sum(
            not call.error and call.version != champions[MODELS[call.client % len(MODELS)]]
            for call in calls
            if kill.ready <= call.begun and call.end < later
        )
    return wrong


def is_ready(serving: ServingProcess) -> bool:
    """As /readyz says."""
    try:
        with urllib.request.urlopen(f"{serving.url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def await_ready(serving: ServingProcess) -> float:
    """The moment. Raises `TimeoutError`."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_ready(serving):
        if time.monotonic() > deadline:
            raise TimeoutError(f"serving is not ready: {serving.log.read_text()[-3000:]}")
        time.sleep(POLL_S)
    return time.monotonic()


def not_there(serving: ServingProcess, versions: dict[str, str]) -> tuple[str, ...]:
    """Models whose right version is not ready."""
    with grpc.insecure_channel(serving.address) as channel:
        stub: Any = GRPCInferenceServiceStub(channel)
        return tuple(
            f"{model} {version}"
            for model, version in versions.items()
            if not stub.ModelReady(pb.ModelReadyRequest(name=model, version=version), timeout=PATIENCE_S).ready
        )


async def kill(serving: ServingProcess, reign: Reign, place: int) -> Kill:
    """Once, under load."""
    changed, meanwhile = MODELS[place % len(MODELS)], MODELS[(place + 1) % len(MODELS)]
    await reign.crown(changed)
    await followed(serving, changed, reign.revisions[changed])
    await asyncio.sleep(LOAD_S)
    killed = time.monotonic()
    serving.kill()
    await reign.crown(meanwhile)
    serving.start()
    await asyncio.to_thread(await_ready, serving)
    wrong = await asyncio.to_thread(not_there, serving, reign.versions)
    made = Kill(killed, time.monotonic(), wrong, int(await asyncio.to_thread(metric, serving, DROPPED)))
    say(f"kill {place + 1}: ready after {made.ready - made.killed:.2f} s, {made.counted} calls counted as lost")
    return made


async def measure(key: str, folder: Path, kills: int, clients: int) -> Outcome:
    """One transport, with a Kafka of its own."""
    transport = "pygrpc" if key == NATIVE else "grpcio"
    home = folder / "home"
    async with (
        running_broker(folder / "kafka") as broker,
        running_serving(home, broker.settings, transport=transport) as serving,
    ):
        made, calls, history = await killed_again(serving, broker.settings, home, kills, clients)
        events = await on_topic(broker.settings, home)
    return outcome(key, made, calls, account(calls, events), wrong_answers(calls, history, made))


async def killed_again(
    serving: ServingProcess, kafka: KafkaSettings, home: Path, kills: int, clients: int
) -> tuple[list[Kill], list[Call], list[tuple[float, str, str]]]:
    """All kills under one load; returns when all that is on disk is on Kafka."""
    common = CommonSettings(home=home, kafka=kafka)
    async with KafkaBus(common, "bench") as bus, ObjectStore(common.objects) as objects:
        packages = [await tiny.store(objects, home, package_files(seed)) for seed in range(PACKAGES)]
        reign = Reign(bus, packages)
        for model in MODELS:
            await reign.crown(model)
            await followed(serving, model, 1)
        with Marked(serving.address, MODELS, clients) as marked:
            await asyncio.sleep(LOAD_S)
            made = [await kill(serving, reign, place) for place in range(kills)]
            await asyncio.sleep(LOAD_S)
    await asyncio.to_thread(drain, serving)
    return made, marked.calls, reign.history


def markdown(found: Sequence[Outcome]) -> str:
    """For docs/benchmarks.md."""
    lines = [
        "| server | kills | ready after, s, median (longest) | wrong versions | calls answered | without an event, "
        "a kill | counted by serving | the oldest answered before the kill, ms | doubled | out of order |",
        "|" + "---|" * 10,
    ]
    for one in found:
        ready = sorted(one.ready_s)
        cells: list[object] = [LABELS[one.server], one.kills, f"{ready[len(ready) // 2]} ({ready[-1]})"]
        cells += [len(one.wrong_versions) + one.wrong_answers, f"{one.answered:,}"]
        cells += [" ".join(map(str, one.missing)), " ".join(map(str, one.counted)), max(one.oldest_ms)]
        lines.append("| " + " | ".join(map(str, [*cells, one.doubled, one.disordered])) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.kill")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--servers", nargs="+", choices=(IRISLOOP, NATIVE), default=[IRISLOOP, NATIVE])
    parser.add_argument("--out", type=Path, default=FILE)
    chosen = parser.parse_args()
    found = []
    for key in chosen.servers:
        with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
            found.append(asyncio.run(measure(key, Path(folder), chosen.kills, chosen.clients)))
    names = [LABELS[one.server] for one in found]
    report.conclude("servers", found, names, markdown(found), chosen.out)


if __name__ == "__main__":
    main()
