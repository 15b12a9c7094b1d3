"""Frames a second through ingest, beside a bare loop that decodes, hashes and writes the same frames.

    python -m tests.bench.bench_ingest [--rounds 3] [--out .irisloop/bench/ingest.json]

Ingest is a real process on a real Kafka: it is stopped (SIGSTOP) while a backlog is sent, then let go, and the time
runs until the last `asset stored` can be read. The bare loop runs on the same core, in turns with it; Kafka and this
program share the other one. Then frames are sent at 50/s, and each is timed from its acknowledgement to its event.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.topics import ASSET_STORED, FRAME_CAPTURED

from services.common.bus.connection import make_consumer, make_producer
from services.common.settings import KafkaSettings
from tests.integration.ingest_house import IngestProcess, running_ingest, running_kafka

SIZES = {"28x28": (28, 28, 6000), "640x480": (640, 480, 600)}
"""Sides and how many frames a round has."""
CAMERAS = 5
RATE = 50
LATENCY_FRAMES = 500
KAFKA_CORE, INGEST_CORE = 0, 1
PARTITIONS = [TopicPartition(ASSET_STORED.name, number) for number in range(6)]


@dataclass(frozen=True)
class Result:
    """Medians over the rounds; `share` is ingest's rate of the bare loop's, CPU in microseconds a frame."""

    frames: str
    bytes_each: int
    ingest_per_second: float
    bare_per_second: float
    share: float
    ingest_cpu_us: float
    bare_cpu_us: float


Pace = tuple[float, float]
"""Frames a second, and CPU microseconds a frame."""


def say(text: str) -> None:
    """A line for whoever runs this."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make_frames(width: int, height: int, count: int, seed: int) -> list[bytes]:
    """Different JPEGs of smooth noise; grey ones when small."""
    noise = np.random.default_rng(seed)
    grey = width < 100
    y, x = np.mgrid[:height, :width]
    frames = []
    for _ in range(min(count, 200)):
        phase = noise.uniform(0, 6, 3)
        waves = [120 + 90 * np.sin(x * 9 / width + one) * np.cos(y * 7 / height + one) for one in phase]
        picture = np.stack(waves[:1] if grey else waves, axis=-1) + noise.normal(0, 3, (height, width, 1))
        pixels = np.clip(picture, 0, 255).astype(np.uint8)
        space, sampling = ("GRAY", "Gray") if grey else ("RGB", "420")
        frames.append(simplejpeg.encode_jpeg(pixels, 85, colorspace=space, colorsubsampling=sampling))
    # A tail behind the end of the picture makes each frame's bytes, and so its object, its own.
    return [frames[number % len(frames)] + (seed * 1_000_000 + number).to_bytes(8, "big") for number in range(count)]


def bare(folder: Path, frames: Sequence[bytes]) -> Pace:
    """Decode, hash and write all of them, as plainly as it can be done."""
    folder.mkdir(parents=True)
    for number in range(256):
        (folder / f"{number:02x}").mkdir()
    grey = simplejpeg.decode_jpeg_header(frames[0])[2] == "Gray"
    start, cpu = time.perf_counter(), time.process_time()
    for frame in frames:
        simplejpeg.decode_jpeg(frame, "GRAY" if grey else "RGB")
        digest = hashlib.sha256(frame).hexdigest()
        with open(f"{folder}/{digest[:2]}/{digest}", "wb") as file:  # noqa: PTH123 - Path would slow the bare loop
            file.write(frame)
    return len(frames) / (time.perf_counter() - start), (time.process_time() - cpu) * 1e6 / len(frames)


def run_bare(folder: Path, size: str, seed: int) -> Pace:
    """The bare loop in a process of its own on ingest's core."""
    command = [sys.executable, "-m", "tests.bench.bench_ingest", "--bare", str(folder), size, str(seed)]
    done = subprocess.run([*pinned(INGEST_CORE), *command], check=True, capture_output=True, text=True)
    rate, cpu = done.stdout.split()
    return float(rate), float(cpu)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pinned(core: int) -> list[str]:
    """A command line's beginning that keeps it on one core."""
    return ["taskset", "-c", str(core)]


async def stored(consumer: AIOKafkaConsumer) -> int:
    """How many `asset stored` can be read."""
    ends = await consumer.end_offsets(PARTITIONS)
    return sum(ends.values())


async def send(producer: AIOKafkaProducer, frames: Sequence[bytes]) -> None:
    """All of them, acknowledged, from five cameras."""
    headers = [("content-type", b"image/jpeg")]
    waits = [
        await producer.send(FRAME_CAPTURED.name, frame, key=b"bench/%d" % (number % CAMERAS), headers=headers)
        for number, frame in enumerate(frames)
    ]
    await asyncio.gather(*waits)


async def run_ingest(
    ingest: IngestProcess, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, frames: Sequence[bytes]
) -> Pace:
    """Through ingest: a backlog from the go to the last event."""
    assert ingest.process is not None
    before = await stored(consumer)
    ingest.process.send_signal(signal.SIGSTOP)
    await send(producer, frames)
    start, cpu = time.perf_counter(), cpu_seconds(ingest.process.pid)
    ingest.process.send_signal(signal.SIGCONT)
    while await stored(consumer) < before + len(frames):
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - start
    return len(frames) / seconds, (cpu_seconds(ingest.process.pid) - cpu) * 1e6 / len(frames)


async def run_latency(kafka: KafkaSettings, producer: AIOKafkaProducer, frames: Sequence[bytes]) -> list[float]:
    """Milliseconds from each frame's acknowledgement to its readable event, sorted, at 50 frames a second."""
    consumer: AIOKafkaConsumer = make_consumer(kafka, "bench-latency", [ASSET_STORED])
    await consumer.start()
    consumer.assign(PARTITIONS)
    await consumer.seek_to_end(*PARTITIONS)
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}

    async def listen() -> None:
        while len(seen) < len(frames):
            found = await consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for record in (one for batch in found.values() for one in batch):
                seen[pb.AssetStored.FromString(record.value).asset.meta["number"]] = now

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        start = time.perf_counter()
        for number, frame in enumerate(frames):
            await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
            name = str(number)
            headers = [("content-type", b"image/jpeg"), ("meta-number", name.encode())]
            key = b"bench/%d" % (number % CAMERAS)
            await producer.send_and_wait(FRAME_CAPTURED.name, frame, key=key, headers=headers)
            sent[name] = time.perf_counter()
    await consumer.stop()
    return sorted(max(0.0, (seen[name] - at) * 1000) for name, at in sent.items())


async def measure(home: Path, rounds: int) -> tuple[list[Result], list[float]]:
    """All sizes in turns with the bare loop, then the latencies."""
    os.sched_setaffinity(0, {KAFKA_CORE})
    async with (
        running_kafka(home / "kafka", prefix=pinned(KAFKA_CORE)) as kafka,
        running_ingest(home / "home", kafka, prefix=pinned(INGEST_CORE)) as ingest,
    ):
        producer: AIOKafkaProducer = make_producer(kafka, "bench", linger_ms=5)
        consumer: AIOKafkaConsumer = make_consumer(kafka, "bench", [ASSET_STORED])
        await producer.start()
        await consumer.start()
        try:
            results = [await _measure_size(size, home, rounds, ingest, producer, consumer) for size in SIZES]
            latencies = await run_latency(kafka, producer, make_frames(28, 28, LATENCY_FRAMES, 99))
        finally:
            await producer.stop()
            await consumer.stop()
    return results, latencies


async def _measure_size(
    size: str, home: Path, rounds: int, ingest: IngestProcess, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer
) -> Result:
    width, height, count = SIZES[size]
    ours: list[Pace] = []
    theirs: list[Pace] = []
    await run_ingest(ingest, producer, consumer, make_frames(width, height, count // 4, 50))  # warm
    for number in range(rounds):
        frames = make_frames(width, height, count, number)
        theirs.append(await asyncio.to_thread(run_bare, home / f"bare-{size}-{number}", size, number))
        ours.append(await run_ingest(ingest, producer, consumer, frames))
        say(f"{size} round {number + 1}: ingest {ours[-1][0]:,.0f}/s, bare loop {theirs[-1][0]:,.0f}/s")
    (rate, cpu), (plain, plain_cpu) = (
        [statistics.median(column) for column in zip(*p, strict=True)] for p in (ours, theirs)
    )
    share = round(rate / plain, 3)
    return Result(size, len(frames[0]), round(rate, 1), round(plain, 1), share, round(cpu, 1), round(plain_cpu, 1))


def report(results: Sequence[Result], latencies: Sequence[float], out: Path) -> None:
    """Write the figures and print them as Markdown."""
    p50, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
    figures = {
        "throughput": [asdict(result) for result in results],
        "asset_stored_ms": {"rate": RATE, "p50": round(p50, 1), "p99": round(p99, 1)},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    say("| JPEG | bytes | ingest, frames/s | bare loop, frames/s | share | CPU a frame, ingest | bare loop |")
    say("|---|---|---|---|---|---|---|")
    for one in results:
        rates = f"{one.ingest_per_second:,.0f} | {one.bare_per_second:,.0f} | {one.share:.0%}"
        say(
            f"| {one.frames} | {one.bytes_each:,} | {rates} | {one.ingest_cpu_us:,.0f} us | {one.bare_cpu_us:,.0f} us |"
        )
    say(f"\nFrame acknowledged -> `asset stored` readable at {RATE}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms.")


def main() -> None:
    """Run the benchmark, or one bare loop for it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(".irisloop/bench/ingest.json"))
    parser.add_argument("--bare", nargs=3, metavar=("FOLDER", "SIZE", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        folder, size, seed = arguments.bare
        frames = make_frames(*SIZES[size], int(seed))
        say(" ".join(map(str, bare(Path(folder), frames))))
        return
    with tempfile.TemporaryDirectory(prefix="irisloop-bench-", ignore_cleanup_errors=True) as home:
        results, latencies = asyncio.run(measure(Path(home), arguments.rounds))
        report(results, latencies, arguments.out)


if __name__ == "__main__":
    main()
