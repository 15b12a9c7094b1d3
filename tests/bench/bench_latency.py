"""From a frame appended to Kafka to its prediction readable (read_committed), at 50 frames a second.

    python -m tests.bench.bench_latency [--frames 1500] [--rate 50] [--out .irisloop/bench/latency.json]

Ingest and serving are real processes on a real Kafka; five cameras send 28x28 JPEGs. The clock of a frame starts at the
broker's acknowledgement and ends when this program's read_committed consumer hands its prediction over. The model is
a convolution and a linear layer on 28x28, about what trainer makes; nothing else of the loop runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.topics import FRAME_CAPTURED, PREDICTION_MADE
from onnx import TensorProto, helper, numpy_helper

from services.common.bus import KafkaBus
from services.common.bus.connection import make_consumer, make_producer
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings, KafkaSettings
from tests.bench.bench_ingest import make_frames
from tests.integration.ingest_house import running_ingest, running_kafka
from tests.integration.serving_house import ServingProcess, followed, running_serving
from tests.unit.serving import tiny

CAMERAS = 5
WARM_UP = 100
PATIENCE_S = 30.0


def graph(classes: int = 10) -> bytes:
    """uint8 [n, 1, 28, 28] -> 3x3 convolution of 16 -> pooled embedding of 16x7x7 -> logits."""
    draw = np.random.RandomState(0).standard_normal
    constants = {
        "full": np.array(255, np.float32),
        "kernel": draw((16, 1, 3, 3)).astype(np.float32),
        "weights": draw((784, classes)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "full"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weights"], ["logits"]),
    ]
    made = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 1, 28, 28])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 784]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


async def deploy(serving: ServingProcess, kafka: KafkaSettings) -> None:
    """A champion for all of the bench's cameras."""
    card = tiny.card(
        classes=[f"class-{number}" for number in range(10)],
        input={**tiny.card()["input"], "height": 28, "width": 28},
        max_batch_size=64,
    )
    files = {"model.onnx": graph(), "model.json": json.dumps(card).encode()}
    package = await tiny.store(ObjectStore(str(serving.home / "objects")), serving.home, files)
    async with KafkaBus(CommonSettings(home=serving.home, kafka=kafka), "bench") as bus:
        await bus.publish([tiny.aliases(1, champion=("1", package))])
    await serving.bind("clothes", "champion", "bench/*")
    await followed(serving, "clothes", 1)


async def measure(kafka: KafkaSettings, frames: Sequence[bytes], rate: float) -> list[float]:
    """Milliseconds of each frame, in the order sent; raises when a prediction is missing."""
    consumer: AIOKafkaConsumer = make_consumer(kafka, "bench-latency", [PREDICTION_MADE], fetch_max_wait_ms=5)
    places = [TopicPartition(PREDICTION_MADE.name, number) for number in range(6)]
    sent: dict[int, float] = {}
    seen: dict[int, float] = {}
    begun = int(time.time() * 1000)

    async def listen() -> None:
        while len(seen) < len(frames):
            found = await consumer.getmany(timeout_ms=200)
            now = time.perf_counter()
            for record in (record for records in found.values() for record in records):
                prediction = pb.PredictionMade.FromString(record.value).prediction
                assert not prediction.error, prediction.error
                seen[number_of(prediction, begun)] = now

    producer = make_producer(kafka, "camera", linger_ms=0)
    await consumer.start()
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    await asyncio.gather(*(consumer.position(place) for place in places))
    await producer.start()
    listening = asyncio.create_task(listen())
    start = time.perf_counter()
    try:
        for number, frame in enumerate(frames):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            captured = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((begun + number) / 1000))
            headers = [
                ("content-type", b"image/jpeg"),
                ("captured-at", f"{captured}.{(begun + number) % 1000:03d}Z".encode()),
            ]
            key = b"bench/%d" % (number % CAMERAS)
            await producer.send_and_wait(FRAME_CAPTURED.name, frame, key=key, headers=headers)
            sent[number] = time.perf_counter()
        await asyncio.wait_for(listening, PATIENCE_S)
    finally:
        listening.cancel()
        await producer.stop()
        await consumer.stop()
    return [(seen[number] - sent[number]) * 1000 for number in range(len(frames))]


def number_of(prediction: pb.Prediction, begun: int) -> int:
    """Which frame it is: its time of capture counts milliseconds from the beginning."""
    return int(prediction.captured_at.ToMilliseconds()) - begun


def summary(taken: Sequence[float], rate: float) -> dict[str, Any]:
    """Percentiles in milliseconds."""
    cuts = statistics.quantiles(taken, n=1000, method="inclusive")
    return {
        "what": "frame acknowledged by Kafka -> prediction readable (read_committed), milliseconds",
        "rate_per_second": rate,
        "frames": len(taken),
        "p50_ms": round(cuts[499], 2),
        "p90_ms": round(cuts[899], 2),
        "p99_ms": round(cuts[989], 2),
        "max_ms": round(max(taken), 2),
        "aim_p50_ms": 100,
    }


async def run(frames: int, rate: float) -> dict[str, Any]:
    """Start everything, warm up, measure."""
    with tempfile.TemporaryDirectory(prefix="irisloop-bench-") as folder:
        home = Path(folder) / "home"
        async with (
            running_kafka(Path(folder) / "kafka") as kafka,
            running_ingest(home, kafka),
            running_serving(home, kafka) as serving,
        ):
            await deploy(serving, kafka)
            await measure(kafka, make_frames(28, 28, WARM_UP, 1), rate)
            return summary(await measure(kafka, make_frames(28, 28, frames, 2), rate), rate)


def main() -> None:
    """Run, say, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--out", type=Path, default=Path(".irisloop/bench/latency.json"))
    chosen = parser.parse_args()
    found = asyncio.run(run(chosen.frames, chosen.rate))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
