"""Kafka is killed under load and comes back a minute later: does inference go on, and is any event lost?

    python -m tests.bench.serving.outage [--seconds 60] [--clients 16] [--servers KEY ...]

Serving follows registry on the embedded Kafka, so that events bear scores and features. Each call bears a trace of its
own, by which its event is looked for on the topic when the spool is empty again.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from irisloop.topics import PREDICTION_MADE

from services.common.bus import KafkaBus
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings, KafkaSettings
from tests.bench.serving import report
from tests.bench.serving.marked import Account, Call, Marked, account, events_of
from tests.bench.serving.registered import crown, package_files
from tests.bench.serving.servers import IRISLOOP, LABELS, NATIVE
from tests.conformance.peers.environments import say
from tests.integration.ingest_house import KafkaProcess, running_broker
from tests.integration.serving_house import ServingProcess, followed, running_serving
from tests.unit.serving import tiny

FILE: Final = Path(".irisloop/bench/outage.json")
MODEL: Final = "gate"
WARM_UP_S: Final = 5.0
AROUND_S: Final = 20.0
"""Measured before the outage, and after it."""
LOOK_S: Final = 1.0
LOOKS: Final = 3
"""So often the spool must be seen empty: the gauge is a second old."""
DRAIN_S: Final = 300.0
RATE_AIM: Final = 0.9


@dataclass(frozen=True, slots=True)
class Moments:
    """By the monotonic clock."""

    begun: float
    killed: float
    back: float
    """Kafka is started again."""
    ended: float
    """The clients are told to stop."""
    drained: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one transport; rates in calls a second, p99 in milliseconds."""

    server: str
    outage_s: float
    calls: int
    failed: int
    answered: int
    identities: int
    lost: int
    doubled: int
    repeats: int
    disordered: int
    dropped: int
    """What serving itself counts as lost."""
    before: float
    during: float
    after: float
    before_p99_ms: float
    during_p99_ms: float
    spool_mb: float
    """At the end of the outage."""
    drained_s: float
    """From the last call on."""

    def aims(self) -> dict[str, bool]:
        """What was asked for, and whether it came out."""
        return {
            "no call failed": not self.failed,
            "one event for each answered call, none lost, none doubled": self.answered == self.identities
            and not (self.lost or self.doubled),
            "each client's events in the order of its calls": not self.disordered,
            f"rate during the outage >= {RATE_AIM:g} of before": self.during >= RATE_AIM * self.before,
        }


def outcome(key: str, calls: Sequence[Call], found: Account, at: Moments, spool_mb: float, dropped: int) -> Outcome:
    """Calls belong to the time in which they ended."""
    before, before_p99 = _pace(calls, at.begun, at.killed)
    during, during_p99 = _pace(calls, at.killed, at.back)
    after, _ = _pace(calls, at.back, at.ended)
    return Outcome(
        server=key,
        outage_s=round(at.back - at.killed, 1),
        calls=len(calls),
        failed=sum(bool(call.error) for call in calls),
        answered=found.answered,
        identities=found.identities,
        lost=len(found.missing),
        doubled=found.doubled,
        repeats=found.repeats,
        disordered=found.disordered,
        dropped=dropped,
        before=before,
        during=during,
        after=after,
        before_p99_ms=before_p99,
        during_p99_ms=during_p99,
        spool_mb=round(spool_mb, 1),
        drained_s=round(at.drained - at.ended, 1),
    )


def _pace(calls: Sequence[Call], start: float, end: float) -> tuple[float, float]:
    """(answers a second, p99 in milliseconds) between two moments."""
    taken = sorted(call.end - call.begun for call in calls if not call.error and start <= call.end < end)
    p99 = taken[int(len(taken) * 0.99)] * 1000 if taken else 0.0
    return round(len(taken) / (end - start), 1), round(p99, 2)


def metric(serving: ServingProcess, name: str) -> float:
    """A figure of /metrics without labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{serving.metrics_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def spool_bytes(serving: ServingProcess) -> float:
    """What is not on Kafka yet, as the server says."""
    return metric(serving, "irisloop_serving_spool_bytes")


def drain(serving: ServingProcess) -> float:
    """Wait until the spool stays empty; the moment when it was first seen so. Raises `TimeoutError`."""
    deadline, since, empty = time.monotonic() + DRAIN_S, 0.0, 0
    while time.monotonic() < deadline:
        if spool_bytes(serving):
            empty = 0
        else:
            since = since if empty else time.monotonic()
            empty += 1
        if empty >= LOOKS:
            return since
        time.sleep(LOOK_S)
    raise TimeoutError(f"the spool still holds {spool_bytes(serving):,.0f} bytes after {DRAIN_S:.0f} s")


async def on_topic(kafka: KafkaSettings, home: Path) -> list[tuple[str, str]]:
    """(ce_id, mark) of every committed prediction; a model's are all in one partition."""
    async with KafkaBus(CommonSettings(home=home, kafka=kafka), "bench") as bus:
        return events_of(await bus.read_named(PREDICTION_MADE.name))


async def interrupted(serving: ServingProcess, broker: KafkaProcess, seconds: float, clients: int) -> dict[str, Any]:
    """Load, an outage, load; then until everything is published."""
    with Marked(serving.address, [MODEL], clients) as marked:
        await asyncio.sleep(WARM_UP_S)
        begun = time.monotonic()
        await asyncio.sleep(AROUND_S)
        killed = time.monotonic()
        broker.kill()
        say(f"Kafka is away for {seconds:.0f} s.")
        await asyncio.sleep(seconds)
        spool = await asyncio.to_thread(spool_bytes, serving)
        back = time.monotonic()
        broker.start()
        await broker.ready()
        say(f"Kafka is back; {spool / 1e6:.1f} MB wait on disk.")
        await asyncio.sleep(AROUND_S)
        ended = time.monotonic()
    drained = await asyncio.to_thread(drain, serving)
    return {"calls": marked.calls, "at": Moments(begun, killed, back, ended, drained), "spool_mb": spool / 1e6}


async def measure(key: str, folder: Path, seconds: float, clients: int) -> Outcome:
    """One transport, with a Kafka of its own."""
    home = folder / "home"
    transport = "pygrpc" if key == NATIVE else "grpcio"
    async with running_broker(folder / "kafka") as broker:
        common = CommonSettings(home=home, kafka=broker.settings)
        async with running_serving(home, broker.settings, transport=transport) as serving:
            async with KafkaBus(common, "bench") as bus, ObjectStore(common.objects) as objects:
                await crown(bus, MODEL, 1, "1", await tiny.store(objects, home, package_files(1)))
            await followed(serving, MODEL, 1)
            seen = await interrupted(serving, broker, seconds, clients)
            dropped = int(metric(serving, "irisloop_serving_direct_dropped_total"))
            events = await on_topic(broker.settings, home)
    found = account(seen["calls"], events)
    return outcome(key, seen["calls"], found, seen["at"], seen["spool_mb"], dropped)


def markdown(found: Sequence[Outcome]) -> str:
    """For docs/benchmarks.md."""
    lines = [
        "| server | Kafka away, s | calls answered | failed | events | lost | doubled | repeats on the topic | "
        "out of order | calls/s before | during | after | p99 before, ms | during | spool, MB | drained after, s |",
        "|" + "---|" * 16,
    ]
    for one in found:
        cells: list[object] = [LABELS[one.server], one.outage_s, f"{one.answered:,}", one.failed]
        cells += [f"{one.identities:,}", one.lost, one.doubled, one.repeats, one.disordered]
        cells += [f"{rate:,.0f}" for rate in (one.before, one.during, one.after)]
        cells += [one.before_p99_ms, one.during_p99_ms, one.spool_mb, one.drained_s]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.outage")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--servers", nargs="+", choices=(IRISLOOP, NATIVE), default=[IRISLOOP, NATIVE])
    parser.add_argument("--out", type=Path, default=FILE)
    chosen = parser.parse_args()
    found = []
    for key in chosen.servers:
        with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
            found.append(asyncio.run(measure(key, Path(folder), chosen.seconds, chosen.clients)))
    names = [LABELS[one.server] for one in found]
    report.conclude("servers", found, names, markdown(found), chosen.out)


if __name__ == "__main__":
    main()
