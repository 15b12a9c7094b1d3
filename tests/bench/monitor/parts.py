"""What each part of the way of a prediction costs in CPU: decoding, putting in order, judging, state, its transaction's
records, and its row.

    python -m tests.bench.monitor.parts [--events 60000] [--cameras 64]

One process, no broker: the same functions as the service calls, on records as the broker hands them out. 64 cameras and
24 channels (22 features and two classes); the frames from which a camera's reference is learnt and refined are not
measured, nor is opening tables.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from irisloop.topics import PREDICTION_MADE

from services.common.bus import Delivery, MemoryBus, Record, Subscription, decode, partition_of
from services.common.bus.cloudevents import Raw
from services.common.bus.memory import CAMERA_PARTITIONS
from services.common.bus.producing import raw_of
from services.common.runtime import COLLECT_AFTER
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.inputs import Seen
from services.monitor.handlers import Judge
from services.monitor.inbound import analytics
from services.monitor.inbound.stream import DriftStream
from services.monitor.outbound.clickhouse import ClickHouse
from tests.unit.monitor.records import event
from tests.unit.monitor.worlds import EPOCH, policy

BATCH: Final = 1000
RATE: Final = 10_000.0
"""Events a second of event time."""


def predictions(cameras: int, events: int, first: int = 0, seed: int = 1) -> Iterator[Raw]:
    """Quiet cameras in turn, as serving writes them."""
    rng = np.random.default_rng(seed)
    for begin in range(first, first + events, 10_000):
        noise = rng.normal(size=(10_000, WIDTH))
        classes = rng.random(10_000) < 0.3
        for place in range(min(10_000, first + events - begin)):
            number = begin + place
            item = Seen(
                _at(number, cameras), f"p-{number}", "", "m", "1", "champion", f"camera-{number % cameras}",
                f"asset-{number}", "class-1" if classes[place] else "class-0", 0.9, tuple(noise[place].tolist()),
            )  # fmt: skip
            raw = raw_of(event(item), "serving")
            partition = partition_of(f"camera-{number % cameras}", CAMERA_PARTITIONS)
            yield Raw(raw.topic, raw.key, raw.value, raw.headers, partition)


def _at(number: int, cameras: int) -> float:
    """The first frames are older than the merger's idle time, so that it does not wait for partitions unseen."""
    return EPOCH + number / RATE - (60.0 if number < cameras else 0.0)


def records(raws: Iterator[Raw]) -> list[Record]:
    """As the broker hands them out: up to a hundred of a partition in a row."""
    offsets = [0] * CAMERA_PARTITIONS
    lanes: list[list[Record]] = [[] for _ in range(CAMERA_PARTITIONS)]
    found: list[Record] = []
    for raw in raws:
        partition = raw.partition or 0
        headers = tuple(raw.headers)
        one = Record(raw.topic, partition, offsets[partition], datetime.now(UTC), raw.key, raw.value, headers)
        offsets[partition] += 1
        lanes[partition].append(one)
        if len(lanes[partition]) == 100:
            found += lanes[partition]
            lanes[partition] = []
    return found + [one for lane in lanes for one in lane]


@dataclass
class Costs:
    """CPU seconds by part."""

    seconds: dict[str, float] = field(default_factory=dict)
    on: bool = False

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what happens meanwhile."""
        began = time.process_time()
        yield
        if self.on:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - began


def wrap(costs: Costs, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, counted."""

    def counted(*given: Any, **named: Any) -> Any:
        with costs.of(part):
            return call(*given, **named)

    return counted


async def judge(found: Sequence[Record], learning: int, costs: Costs, profile: Any = None) -> int:
    """Everything through the judge; the number of events measured."""
    one = Judge(policy())
    stream = DriftStream(one, pace=0.0)
    bus = MemoryBus(service="monitor")
    await stream.restore(0, bus)
    engine, snapshots = one._engine, one._snapshots
    one.take = wrap(costs, "judge", one.take)  # type: ignore[method-assign]
    snapshots.changed = wrap(costs, "snapshot", snapshots.changed)  # type: ignore[method-assign]
    for begin in range(0, len(found), BATCH):
        costs.on = begin >= learning
        if costs.on and profile is not None:
            profile.enable()
        part = found[begin : begin + BATCH]
        with costs.of("decode"):
            deliveries: list[Delivery[Any]] = [decode(record, PREDICTION_MADE) for record in part]
        with costs.of("whole step"):
            outcome = await stream.process(0, deliveries)
        with costs.of("write"):
            for said in outcome.events:
                raw_of(said, "monitor")
    assert engine.models["m"].cameras["camera-0"].reference is not None
    return len(found) - learning


async def store(found: Sequence[Record], costs: Costs) -> int:
    """Into ClickHouse in process, 2,000 of each partition at a time, side by side as the bus hands them over."""
    heard: list[Subscription[Any]] = []

    class Listening(MemoryBus):
        def subscribe(self, subscription: Subscription[Any]) -> None:
            heard.append(subscription)

    with tempfile.TemporaryDirectory() as folder:
        async with ClickHouse(Path(folder) / "clickhouse", "", keep_days=3650) as warehouse:
            await warehouse.open()
            analytics.subscribe(Listening(), warehouse)
            (one,) = (one for one in heard if one.handler == "store-predictions")
            read = one.decode or (lambda record: decode(record, PREDICTION_MADE))
            lanes: list[list[Record]] = [[] for _ in range(CAMERA_PARTITIONS)]
            for record in found:
                lanes[record.partition].append(record)
            await one.handle([read(record) for record in found[-1:]])  # what is loaded once
            costs.on = True
            for begin in range(0, max(map(len, lanes)), 2000):
                parts = [part for lane in lanes if (part := lane[begin : begin + 2000])]
                with costs.of("decode, analytics"):
                    batches = [[read(record) for record in part] for part in parts]
                with costs.of("rows and insert"):
                    await asyncio.gather(*(one.handle(batch) for batch in batches))
    return len(found)


@contextmanager
def mock_threads() -> Iterator[None]:
    """Calls in the thread that asks for them, where the profiler sees them."""

    async def call(work: Callable[..., Any], *given: Any) -> Any:
        return work(*given)

    kept, asyncio.to_thread = asyncio.to_thread, call  # type: ignore[assignment]
    yield
    asyncio.to_thread = kept


def main() -> None:
    """Run, say, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--cameras", type=int, default=64)
    parser.add_argument("--warm", type=int, default=4200, help="frames of each camera before it is measured")
    parser.add_argument("--profile", action="store_true", help="where the judge's time goes, function by function")
    parser.add_argument("--out", type=Path, default=Path(".irisloop/bench/monitor-parts.json"))
    chosen = parser.parse_args()
    learning = chosen.warm * chosen.cameras // BATCH * BATCH + BATCH
    found = records(predictions(chosen.cameras, chosen.events + learning))  # 2 KB each
    costs = Costs()
    gc.freeze()  # The service does not hold them, and its collector is spared as well.
    gc.set_threshold(*COLLECT_AFTER)
    if chosen.profile:
        import cProfile
        import pstats

        profile = cProfile.Profile()
        with mock_threads():
            asyncio.run(judge(found, learning, costs, profile))
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    measured = asyncio.run(judge(found, learning, costs))
    each = {part: 1e6 * seconds / measured for part, seconds in costs.seconds.items()}
    each["judge"] -= each.get("snapshot", 0.0)
    each["step beside"] = each.pop("whole step") - each["judge"] - each.get("snapshot", 0.0)
    costs.seconds.clear()
    stored = asyncio.run(store(found[:measured], costs))
    each |= {part: 1e6 * seconds / stored for part, seconds in costs.seconds.items()}
    each["all"] = sum(each.values())
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(each, indent=2) + "\n", encoding="utf-8")
    lines = ["| part | CPU us an event |", "|---|---:|", *(f"| {part} | {us:.1f} |" for part, us in each.items())]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
