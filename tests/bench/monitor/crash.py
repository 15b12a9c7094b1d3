"""What two monitors that are killed again and again say and store, beside two that are left alone.

    python -m tests.bench.monitor.crash [--kills 50] [--frames 12000] [--seed 1]

Both runs get the same recorded stream on a Kafka of their own. In the disturbed one the stream flows on while one of
the two processes, or both, get SIGKILL; some stay dead until the group gives their work to the other. At the end all
that was said (keys, values and headers, as read_committed shows them) and every row of analytics must be the same. What
of it depends on where Kafka writes the ends of transactions is left out: offsets of the monitor's own topics.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from irisloop.topics import (
    ALERT_RAISED,
    ANNOTATION_CONFIRMED,
    CHALLENGER_JUDGED,
    CLOCK_TICKED,
    DRIFT_DETECTED,
    PREDICTION_MADE,
    RETRAIN_DECLINED,
    RETRAIN_REQUESTED,
)

from services.common.bus import KafkaBus, Record, Topic
from services.common.bus.cloudevents import Raw
from services.common.bus.connection import silence_noise
from services.common.bus.handover import place_of
from services.common.settings import CommonSettings, KafkaSettings
from services.monitor.domain.tables import TABLES
from tests.bench.monitor.recording import Feed, record
from tests.integration.ingest_house import running_kafka
from tests.integration.service_process import ServiceProcess

SAID: Final[tuple[Topic[Any], ...]] = (
    DRIFT_DETECTED,
    ALERT_RAISED,
    RETRAIN_REQUESTED,
    RETRAIN_DECLINED,
    CHALLENGER_JUDGED,
)
ROLES: Final = ('["detection", "analytics"]', '["detection"]')
"""ClickHouse in process is opened by one."""
LONG_S: Final = 12.0
"""Dead for so long, a static member loses its partitions."""
EVERY_LONG: Final = 6
SETTLE_S: Final = 300.0
TICKS: Final = (CLOCK_TICKED.name,)
STORED: Final[tuple[tuple[str, Topic[Any]], ...]] = (
    ("store-predictions", PREDICTION_MADE),
    ("store-annotations", ANNOTATION_CONFIRMED),
    ("store-drifts", DRIFT_DETECTED),
    ("store-requests", RETRAIN_REQUESTED),
    ("store-refusals", RETRAIN_DECLINED),
    ("store-alerts", ALERT_RAISED),
)
_DUMP: Final = """
import sys, clickhouse_connect
client = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1])
for query in sys.argv[2:]:
    sys.stdout.buffer.write(client.raw_query(query, fmt="TSVWithNames"))
"""


@dataclass
class Outcome:
    """What a run left behind."""

    said: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    rows: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    kills: list[str] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    restored: int = 0


def monitors(home: Path, kafka: KafkaSettings, environment: Mapping[str, str]) -> list[ServiceProcess]:
    """Two, not started."""
    common = {
        "IRISLOOP_MONITOR__SQL": "false",
        "IRISLOOP_MONITOR__ANALYTICS_DAYS": "3650",
        "IRISLOOP_MONITOR__TICKS": "false",  # they are part of the recording
        **environment,
    }
    return [
        ServiceProcess(
            "monitor",
            home / f"monitor-{number}",
            kafka,
            {**common, "IRISLOOP_REPLICA": str(number), "IRISLOOP_MONITOR__ROLES": roles},
        )
        for number, roles in enumerate(ROLES)
    ]


async def any_ready(both: Sequence[ServiceProcess]) -> None:
    """Until one of them judges; the other stands by, which is not ready."""
    deadline = time.monotonic() + 120
    async with httpx.AsyncClient(timeout=5) as client:
        while time.monotonic() < deadline:
            for one in both:
                try:
                    if (await client.get(f"http://127.0.0.1:{one.http_port}/readyz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    continue
            await asyncio.sleep(0.1)
    raise TimeoutError("no monitor is ready: " + "\n".join(one.log() for one in both))


async def at_work(kafka: KafkaSettings) -> None:
    """Until a judge has written its first state: a kill before that takes nothing away."""
    async with asyncio.timeout(SETTLE_S):
        while not any((await place_of(kafka, "monitor", "judge-drift"))[1].values()):
            await asyncio.sleep(0.1)


async def disturb(both: Sequence[ServiceProcess], kills: int, seed: int, done: Outcome) -> None:
    """Kill and start again; what is killed, when, and for how long comes from the seed."""
    rng = random.Random(seed)
    for number in range(kills):
        victims = rng.choice(((0,), (0,), (1,), (0, 1)))
        await asyncio.sleep(rng.uniform(0.1, 3.0))
        for victim in victims:
            both[victim].kill()
        done.kills.append("".join(map(str, victims)))
        if number % EVERY_LONG == EVERY_LONG - 1:
            await asyncio.sleep(LONG_S)
        began = time.monotonic()
        for victim in victims:
            both[victim].start()
        await any_ready(both)
        done.ready_s.append(time.monotonic() - began)


async def run(folder: Path, raws: Sequence[Raw], kills: int, seed: int, environment: Mapping[str, str]) -> Outcome:
    """The whole stream through two monitors; without kills all at once."""
    done, began = Outcome(), time.monotonic()
    async with running_kafka(folder / "kafka") as kafka, Feed(kafka, raws) as feed:
        both = monitors(folder, kafka, environment)
        try:
            for one in both:
                one.start()
            await any_ready(both)
            flow = asyncio.create_task(flowing(feed, len(raws), kills, done))
            await at_work(kafka)
            await disturb(both, kills, seed, done)
            await flow
            async with KafkaBus(CommonSettings(home=folder / "bench", kafka=kafka), "bench") as bus:
                done.said = await settled(kafka, bus, raws)
        finally:
            for one in both:
                one.kill()
    done.restored = sum(read_back((one.home / "log.txt").read_text()) for one in both)
    done.rows = tables(both[0].home / "clickhouse")
    done.seconds = time.monotonic() - began
    return done


def read_back(log: str) -> int:
    """How often a judge took up a state that one before it had left; the first one's is empty."""
    said = [json.loads(line) for line in log.splitlines() if '"judge_restored"' in line]
    return sum(line["pieces"] > 0 for line in said)


async def flowing(feed: Feed, total: int, kills: int, done: Outcome) -> None:
    """Keep the stream a little ahead of the kills, so that it lasts as long as they do."""
    written = 0
    while written < total:
        ahead = total if len(done.kills) >= kills else total * (len(done.kills) + 1) // (kills + 1)
        written = min(written + 200, ahead)
        await feed.up_to(written)
        await asyncio.sleep(0.05 if written < ahead else 0.2)


async def settled(kafka: KafkaSettings, bus: KafkaBus, raws: Sequence[Raw]) -> dict[str, list[tuple[Any, ...]]]:
    """What was said, once every group has committed its last record."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        written = Counter((raw.topic, raw.partition or 0) for raw in raws)
        await committed(admin, "judge-drift", {place: end for place, end in written.items() if place[0] in TICKS})
        said = {topic.name: await bus.read(topic, 0) for topic in SAID}
        ends = written | {(name, 0): records[-1].offset + 1 for name, records in said.items() if records}
        for handler, topic in STORED:
            await committed(admin, handler, {place: end for place, end in ends.items() if place[0] == topic.name})
        return {name: words(records) for name, records in said.items()}
    finally:
        await admin.close()


async def committed(admin: AIOKafkaAdminClient, handler: str, ends: Mapping[tuple[str, int], int]) -> None:
    """Until a group has come that far. Raises `TimeoutError`."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        found = await admin.list_consumer_group_offsets(f"irisloop.monitor.{handler}")
        offsets = {(place.topic, place.partition): meta.offset for place, meta in found.items()}
        if all(offsets.get(place, 0) >= end for place, end in ends.items()):
            return
        await asyncio.sleep(0.5)
    raise TimeoutError(f"{handler} has not come to {dict(ends)}, but to {offsets}")


def words(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """(key, value, headers) of what is committed, by key and offset."""
    return sorted(((r.key, r.value, r.headers) for r in records), key=lambda w: w[0] or b"")


def tables(folder: Path) -> dict[str, bytes]:
    """Every row of analytics as text, exact, without offsets of the monitor's own topics; in a process of its own."""
    own = "startsWith(topic, 'irisloop.monitor.')"
    queries = [
        f"SELECT * REPLACE (if({own}, 0, offset) AS offset) FROM {table.name} "
        f"ORDER BY topic, partition, {table.name}.offset"
        for table in TABLES
    ]
    found = {}
    for table, query in zip(TABLES, queries, strict=True):
        command = [sys.executable, "-c", _DUMP, str(folder), query]
        found[table.name] = subprocess.run(command, check=True, capture_output=True).stdout
    return found


def compare(still: Outcome, disturbed: Outcome) -> dict[str, dict[str, Any]]:
    """For each topic and table: how much there is, and whether it is the same to the bit."""
    table: dict[str, dict[str, Any]] = {}
    for name, words in still.said.items():
        other = disturbed.said[name]
        table[name] = {"still": len(words), "disturbed": len(other), "same": words == other}
    for name, rows in still.rows.items():
        other_rows = disturbed.rows[name]
        counts = (rows.count(b"\n") - 1, other_rows.count(b"\n") - 1)
        table[name] = {"still": counts[0], "disturbed": counts[1], "same": rows == other_rows}
    return table


def show(found: Mapping[str, Mapping[str, Any]], disturbed: Outcome) -> str:
    """As docs/benchmarks.md shows it."""
    lines = ["| | left alone | killed | to the bit |", "|---|---:|---:|---|"]
    lines += [
        f"| {name} | {row['still']:,} | {row['disturbed']:,} | {'same' if row['same'] else 'DIFFERENT'} |"
        for name, row in found.items()
    ]
    kills = len(disturbed.kills)
    lines.append(
        f"\n{kills} kills ({disturbed.kills.count('01')} of both), the state read back {disturbed.restored} times, "
        f"{disturbed.seconds:.0f} s"
    )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run both, say, write; 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--frames", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=None, help="folder to leave everything in")
    parser.add_argument("--out", type=Path, default=Path(".irisloop/bench/monitor-crash.json"))
    chosen = parser.parse_args()
    silence_noise()
    raws = record(chosen.seed, chosen.frames)
    with tempfile.TemporaryDirectory() as made:
        folder = chosen.keep or Path(made)
        still = asyncio.run(run(folder / "still", raws, 0, chosen.seed, {}))
        disturbed = asyncio.run(run(folder / "killed", raws, chosen.kills, chosen.seed, {}))
    found = compare(still, disturbed)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    written = {"records": len(raws), "kills": disturbed.kills, "ready_s": disturbed.ready_s, "found": found}
    chosen.out.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(show(found, disturbed))
    return 0 if all(row["same"] for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
