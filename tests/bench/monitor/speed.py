"""How fast the monitor is as a process on Kafka: events a core, rows a core, dashboards' queries, and a restart.

    python -m tests.bench.monitor.speed [drain|store|queries|ready ...] [--events 300000] [--rows 10000000]

drain    64 cameras, 24 channels, quiet: prediction to state, analytics and alarm, both roles in one process; events a
         second of its CPU (user and system), and its memory as it goes. 6,000,000 events are ten minutes at 10,000/s.
store    the role `analytics` alone, beside bare `insert_arrow` of the same rows, 10,000 at a time, in CPU.
queries  every dashboard query over ten million predictions of a week, one in a hundred labelled, and an incident of
         four cameras, made in SQL: p95 of 20 rounds each.
ready    the judge's state of 1,000 cameras on the bus, with what was written since it was written whole: seconds from
         start to ready.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from aiokafka.admin import AIOKafkaAdminClient

from services.common.bus.cloudevents import Raw
from services.common.bus.connection import silence_noise
from services.common.settings import KafkaSettings
from services.monitor.domain.engine import Engine
from services.monitor.domain.pieces import KEYFRAME, Snapshots
from services.monitor.domain.snapshot import CODEC
from tests.bench.monitor.parts import predictions
from tests.bench.monitor.recording import Feed
from tests.integration.ingest_house import running_kafka
from tests.integration.service_process import ServiceProcess

EVERY_S: Final = 2.0
ROUNDS: Final = 20
CAMERAS: Final = 64


def monitor(folder: Path, kafka: KafkaSettings, roles: str) -> ServiceProcess:
    """Not started."""
    settings = {
        "IRISLOOP_MONITOR__ROLES": roles,
        "IRISLOOP_MONITOR__SQL": "false",
        "IRISLOOP_MONITOR__ANALYTICS_DAYS": "3650",
    }
    return ServiceProcess("monitor", folder, kafka, settings)


async def written(kafka: KafkaSettings, raws: Iterator[Raw]) -> Counter[int]:
    """Write them; how many there are in each partition."""
    counts: Counter[int] = Counter()
    while chunk := list(islice(raws, 10_000)):
        async with Feed(kafka, chunk) as feed:
            await feed.up_to(len(chunk))
        counts.update(raw.partition or 0 for raw in chunk)
    return counts


async def followed(kafka: KafkaSettings, one: ServiceProcess, handlers: Sequence[str], events: int) -> list[Any]:
    """(seconds, CPU seconds, resident MiB, records done by the slowest handler, records judged late) until all are
    done.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    samples: list[Any] = []
    try:
        one.start()
        assert one.process is not None
        process, began = psutil.Process(one.process.pid), time.monotonic()
        await one.ready()
        while not samples or samples[-1][3] < events * 0.98:  # The newest records wait for those that may come.
            counts = [await done(admin, handler) for handler in handlers]
            cpu, memory = process.cpu_times(), process.memory_info().rss / 2**20
            late = await counted(one, "irisloop_monitor_late_total")
            samples.append((time.monotonic() - began, cpu.user + cpu.system, memory, min(counts), late))
            if time.monotonic() - began > 3600:
                raise TimeoutError(f"not done: {samples[-1]}; {one.log()}")
            await asyncio.sleep(EVERY_S)
    finally:
        one.kill()
        await admin.close()
    return samples


async def counted(one: ServiceProcess, name: str) -> int:
    """What a counter of a process stands at."""
    async with httpx.AsyncClient(timeout=30) as client:
        shown = (await client.get(f"http://127.0.0.1:{one.http_port}/metrics")).text
    return int(next(float(line.split()[-1]) for line in shown.splitlines() if line.startswith(f"{name} ")))


async def done(admin: AIOKafkaAdminClient, handler: str) -> int:
    """Predictions up to what a group has committed."""
    found = await admin.list_consumer_group_offsets(f"irisloop.monitor.{handler}")
    return sum(max(meta.offset, 0) for place, meta in found.items() if ".prediction." in place.topic)


async def drain(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Both roles, everything on; the first half is learning and is left out."""
    async with running_kafka(folder / "kafka") as kafka:
        await written(kafka, predictions(CAMERAS, chosen.events))
        one = monitor(folder / "home", kafka, '["detection", "analytics"]')
        samples = await followed(kafka, one, ("judge-drift", "store-predictions"), chosen.events)
    return rates(samples, chosen.events)


def rates(samples: Sequence[Any], events: int) -> dict[str, Any]:
    """Of the second half."""
    half = next(s for s in samples if s[3] >= events / 2)
    last = samples[-1]
    count = max(last[3] - half[3], 1)
    return {
        "events": events,
        "us_cpu_an_event": 1e6 * (last[1] - half[1]) / count,
        "events_a_cpu_second": count / max(last[1] - half[1], 1e-9),
        "events_a_second": count / max(last[0] - half[0], 1e-9),
        "us_cpu_an_event_all": 1e6 * last[1] / last[3],
        "late": last[4],
        "mib_by_tenths": [round(next(s[2] for s in samples if s[3] >= last[3] * tenth / 10)) for tenth in range(1, 11)],
    }


async def store(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Kafka to ClickHouse, beside what ClickHouse takes for the same rows."""
    async with running_kafka(folder / "kafka") as kafka:
        await written(kafka, predictions(CAMERAS, chosen.events))
        one = monitor(folder / "home", kafka, '["analytics"]')
        found = rates(await followed(kafka, one, ("store-predictions",), chosen.events), chosen.events)
    command = [sys.executable, "-c", _BARE, str(one.home / "clickhouse")]
    bare = float(await asyncio.to_thread(subprocess.check_output, command))
    return found | {"us_cpu_a_row_bare": bare, "share_of_bare": bare / found["us_cpu_an_event"]}


_BARE: Final = """
import sys, time, clickhouse_connect
client = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1])
table = client.query_arrow("SELECT * FROM predictions LIMIT 200000", use_strings=True)
client.command("CREATE TABLE bare AS predictions")
client.insert_arrow("bare", table.slice(0, 10000))
began = time.process_time()
for first in range(0, len(table), 10000):
    client.insert_arrow("bare", table.slice(first, 10000))
print(1e6 * (time.process_time() - began) / len(table))
"""

_FILL: Final = """
INSERT INTO predictions SELECT 'irisloop.serving.prediction.made.v1', number % 6, intDiv(number, 6),
  toString(generateUUIDv4()), toString(generateUUIDv4()), concat('camera-', toString(number % {cameras})), 'm',
  toString(1 + intDiv(number * 3, {rows})), if(number % 20 = 0, 'shadow', 'champion'),
  fromUnixTimestamp64Micro(toInt64({epoch} + intDiv(number * 604800000000, {rows})), 'UTC'),
  fromUnixTimestamp64Micro(toInt64({epoch} + intDiv(number * 604800000000, {rows}) + 40000), 'UTC'),
  2 + randExponential(0.5, number), concat('class-', toString(rand(1) % 10)), 0.5 + rand(2) / 8589934592, 'replica-0',
  if(number % 1000 = 0, 'timeout', ''), 0, {features}
FROM numbers({first}, {count})
"""


_LABEL: Final = """
INSERT INTO annotations (topic, partition, offset, id, asset_id, camera_id, captured_at, annotated_at, revision,
  class_name, annotated_by, source, origin, propensity, `predictions.model`, `predictions.version`, `predictions.role`,
  `predictions.class_name`, `predictions.score`)
SELECT 'labels', partition, offset, id, asset_id, camera_id, captured_at, captured_at, 1, class_name, 'ann', 'person',
  'uniform', 0.01, [model], [version], [role], [class_name], [score] FROM predictions WHERE offset % 100 = 0
"""
_DRIFT: Final = """
INSERT INTO drifts
  (topic, partition, offset, incident_id, revision, model, version, state, began_at, detected_at, cameras)
SELECT 'drifts', 0, number, 'i', number + 1, 'm', '2', 'confirmed', fromUnixTimestamp({epoch} + 302400),
  fromUnixTimestamp({epoch} + 302460), ['camera-1', 'camera-2', 'camera-3', 'camera-4'] FROM numbers(5)
"""


async def queries(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The panels' own SQL, as the SQL front runs it; milliseconds, the slowest first."""
    from services.monitor.domain.channels import WIDTH
    from services.monitor.domain.sql import Limits, Question
    from services.monitor.outbound.clickhouse import ClickHouse
    from services.monitor.outbound.embedded import EmbeddedReader
    from tests.integration import test_dashboards as boards
    from tests.unit.monitor.worlds import EPOCH

    values = {
        "rows": chosen.rows,
        "cameras": CAMERAS,
        "epoch": int(EPOCH * 1e6),
        "features": ", ".join(f"rand({n + 10}) / 4294967296" for n in range(WIDTH)),
    }
    names = {"model": ["m"], "camera": [f"camera-{n}" for n in range(CAMERAS)], "incident": ["i"]}
    found: dict[str, float] = {}
    async with ClickHouse(folder, "", keep_days=3650) as warehouse:
        await warehouse.open()
        for first in range(0, chosen.rows, 500_000):
            query = _FILL.format(**values, first=first, count=min(500_000, chosen.rows - first))
            await warehouse._call(partial(warehouse._client.command, query))
        for query in (_LABEL, _DRIFT.format(epoch=int(EPOCH))):
            await warehouse._call(partial(warehouse._client.command, query))
        async with EmbeddedReader(folder, Limits(60, 1_000_000, 2048)) as engine:
            for where, kind, sql in boards.queries():
                text = boards.filled(sql, names, EPOCH + 604_800).replace("INTERVAL 20 second", "INTERVAL 1 hour")
                times = []
                for _ in range(ROUNDS):
                    began = time.monotonic()
                    await engine.ask(Question(text, format="JSONCompact"))
                    times.append(1e3 * (time.monotonic() - began))
                found[f"{where} ({kind})"] = statistics.quantiles(times, n=20)[-1]
    slowest = dict(sorted(found.items(), key=lambda one: -one[1]))
    p95 = statistics.quantiles(found.values(), n=20)[-1]
    return {"rows": chosen.rows, "queries": len(found), "p95_ms": p95, "by_query_p95_ms": slowest}


async def ready(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """A state of many cameras whose references are learnt, and all that was written before it would be written anew."""
    from irisloop.monitor.v1 import monitor_pb2 as pb
    from irisloop.topics import PREDICTION_MADE, SNAPSHOT_TAKEN

    from services.common.bus import Event, Record, decode
    from services.common.bus.producing import raw_of
    from services.monitor import wire
    from services.monitor.domain.inputs import Input
    from tests.unit.monitor.worlds import policy

    engine, snapshots = Engine.new(policy()), Snapshots()
    stamp = wire.moment(0.0)
    inputs: list[Input] = []
    pieces: list[tuple[str, bytes]] = []
    for number, raw in enumerate(predictions(chosen.cameras, chosen.cameras * (chosen.frames + chosen.more)), start=1):
        record = Record(raw.topic, raw.partition or 0, 0, stamp, raw.key, raw.value, tuple(raw.headers))
        item = wire.input_of(decode(record, PREDICTION_MADE))
        assert item is not None
        inputs.append(item)
        if len(inputs) == 1000:
            list(engine._run(inputs))
            inputs.clear()
            if number >= chosen.cameras * chosen.frames:
                pieces += snapshots.changed(engine)
    pieces = pieces[: max(place for place, (key, _) in enumerate(pieces) if key == KEYFRAME) or None]
    raws = []
    for key, state in pieces:
        value = pb.SnapshotTaken(key=key, codec=CODEC, state=state)
        raws.append(raw_of(Event(SNAPSHOT_TAKEN, key, value, key, stamp, partition=0), "monitor"))
    known = sum(c.reference is not None for c in engine.models["m"].cameras.values())
    seconds, cpu = [], []
    async with running_kafka(folder / "kafka") as kafka:
        await written(kafka, iter(raws))
        for _ in range(3):
            one = monitor(folder / "home", kafka, '["detection"]')
            began = time.monotonic()
            one.start()
            try:
                await one.ready()
                seconds.append(time.monotonic() - began)
                assert one.process is not None
                times = psutil.Process(one.process.pid).cpu_times()
                cpu.append(times.user + times.system)
            finally:
                one.kill()
    size = sum(len(state) for _, state in pieces)
    return {
        "cameras": known,
        "pieces": len(pieces),
        "mib": size / 2**20,
        "ready_s": sorted(seconds),
        "cpu_s": sorted(cpu),
    }


PARTS: Final[dict[str, Callable[[Path, argparse.Namespace], Coroutine[Any, Any, dict[str, Any]]]]] = {
    "drain": drain,
    "store": store,
    "queries": queries,
    "ready": ready,
}


def main() -> None:
    """Run, say, write; what is not measured this time stays as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", default=[])
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--cameras", type=int, default=1000, help="of `ready`")
    parser.add_argument("--frames", type=int, default=600, help="of each camera of `ready`")
    parser.add_argument("--more", type=int, default=60, help="of each camera of `ready`, a snapshot each 1,000 events")
    parser.add_argument("--out", type=Path, default=Path(".irisloop/bench/monitor-speed.json"))
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)!r}")
    silence_noise()
    kept = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {}
    for name in chosen.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            kept[name] = asyncio.run(PARTS[name](Path(folder), chosen))
        sys.stdout.write(json.dumps({name: kept[name]}, indent=2) + "\n")
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
