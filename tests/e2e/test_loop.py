"""The loop, short: labelled images in, a model trained and live, frames predicted, a service killed, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from irisloop.topics import PREDICTION_MADE
from numpy.typing import NDArray

from services.common.bus import decode
from services.common.bus.kafka import KafkaBus
from services.common.settings import CommonSettings
from services.local.demo import apis
from services.local.demo.client import InferenceClient, wait_live
from services.local.demo.frames import png
from services.local.settings import LocalSettings
from services.local.supervisor import Supervisor
from tests.waiting import until

CLASSES = ["bar", "ring", "spot"]
IMAGES = 600
FRAMES = 240
CAMERAS = ("north/gate-1", "south/gate-1", "south/belt-1")
READY_S = 180.0
PATIENCE_S = 240.0

pytestmark = pytest.mark.e2e


def shapes(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Grey images [count, 28, 28] of three shapes at random places, with noise; and the class of each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(CLASSES), size=count)
    rows, columns = np.mgrid[:28, :28]
    images = np.empty((count, 28, 28), np.uint8)
    for place, label in enumerate(labels):
        y, x = rng.uniform(9, 19, 2)
        distance = np.hypot(rows - y, columns - x)
        drawn = (np.abs(columns - x) < 2, np.abs(distance - 6) < 1.5, distance < 4)[label]
        images[place] = np.clip(drawn * 190 + rng.normal(30, 12, (28, 28)), 0, 255)
    return images, labels


async def send_frames(bootstrap: str, images: NDArray[np.uint8], first: int) -> None:
    """As cameras do: plain PNGs, one in twenty again under the same ce_id."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        for number, image in enumerate(images, first):
            headers = [("content-type", b"image/png"), ("ce_id", f"e2e-{number}".encode())]
            camera = CAMERAS[number % len(CAMERAS)].encode()
            for _ in range(2 if number % 20 == 0 else 1):
                await producer.send_and_wait(
                    "irisloop.ingest.frame.captured.v1", png(image), key=camera, headers=headers
                )


async def predictions(bootstrap: str) -> list[Any]:
    """Every committed prediction for an asset."""
    settings = CommonSettings()
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": bootstrap})})
    async with KafkaBus(settings, "e2e") as bus:
        records = [record for number in range(6) for record in await bus.read(PREDICTION_MADE, number)]
    found = [decode(record, PREDICTION_MADE) for record in records]
    return [delivery for delivery in found if delivery.value.prediction.asset_id]


async def all_predicted(bootstrap: str, count: int) -> bool:
    return len(await predictions(bootstrap)) >= count


async def has_champion(deployment: Supervisor) -> bool:
    async with httpx.AsyncClient(base_url=deployment.url("registry"), timeout=60) as http:
        models: Sequence[dict[str, Any]] = (await http.get("/api/v1/models")).json()["models"]
    return any(alias["name"] == "champion" for model in models for alias in model["aliases"])


async def is_watched(deployment: Supervisor) -> bool:
    async with httpx.AsyncClient(base_url=deployment.url("monitor"), timeout=60) as http:
        return bool((await http.get("/api/v1/status")).json()["models"])


@pytest.mark.timeout(900)
async def test_a_model_trained_from_imported_labels_predicts_every_frame_once_through_a_kill(tmp_path: Path) -> None:
    images, labels = shapes(IMAGES + FRAMES, 7)
    lines: list[str] = []
    common = CommonSettings().model_copy(update={"home": tmp_path})
    settings = LocalSettings(common=common)
    async with Supervisor(settings, free_ports=True, say=lambda name, line: lines.append(f"{name} {line}")) as up:
        await up.wait_ready(READY_S)
        await apis.import_images(up, "shapes", images[:IMAGES], labels[:IMAGES], CLASSES)
        await apis.start_run(up, "shapes", 1)
        await until(lambda: has_champion(up), PATIENCE_S, what="a champion", pause_s=0.3)
        await apis.bind(up, "shapes")
        await wait_live(up.address("serving"), "shapes", PATIENCE_S)
        client = InferenceClient(up.address("serving"), "shapes", images[:8, None], 10.0)
        calling = asyncio.create_task(client.run())
        live = images[IMAGES:]
        await send_frames(up.bootstrap_servers, live[: FRAMES // 2], 0)
        up.kill("ingest")
        await send_frames(up.bootstrap_servers, live[FRAMES // 2 :], FRAMES // 2)
        done = partial(all_predicted, up.bootstrap_servers, FRAMES)
        await until(done, PATIENCE_S, what="every prediction", pause_s=0.3)
        client.stopping = True
        await calling
        found = await predictions(up.bootstrap_servers)
        await until(lambda: is_watched(up), PATIENCE_S, what="the monitor's first word on the model", pause_s=0.3)
    assert len(found) == FRAMES, "one prediction for each frame, also after the kill"
    assert len({delivery.ce_id for delivery in found}) == FRAMES
    assert client.calls.calls > 0
    assert client.calls.failures == 0, client.calls.errors
    assert up.processes()["ingest"]["restarts"] == 1
    right = [delivery.value.prediction.scores[0].class_name in CLASSES for delivery in found]
    assert all(right)
