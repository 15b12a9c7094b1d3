"""A version's way to champion and back, by `irisloop up` and its commands on the embedded Kafka, while clients call and
cameras send.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
import yaml
from aiokafka import AIOKafkaProducer
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.registry.v1 import registry_pb2_grpc
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import PREDICTION_MADE
from PIL import Image
from tritonclient.utils import InferenceServerException

from services.common.bus import KafkaBus
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings, KafkaSettings
from services.local.demo.client import wait_live
from tests.e2e.deployment import REPOSITORY, Deployment, up
from tests.unit.serving import tiny
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MODEL: Final = "clothes"
CAMERAS: Final = ("gate-0", "gate-1", "gate-2", "gate-3")
RATE: Final = 40.0
"""Calls a second."""
BACK_S: Final = 30.0
"""So long after registry's decision nobody hears the version that was taken back."""
REGISTRY_POLICY: Final = """
policies:
  - models: "*"
    stages:
      - {stage: shadow, pairs: 40}
      - {stage: canary, share: 0.5}
    watch_pairs: 40
"""
WATCH_PAIRS: Final = 40
IMAGES: Final = np.random.RandomState(5).randint(0, 256, (3, 1, 4, 4)).astype(np.uint8)
GOOD, BAD = 1, 3
"""Seeds of weights: the first is the champion's own, the other names another class for each of the images."""


@dataclass
class Client:
    """Calls without an end, each under a key of its own."""

    address: str
    answers: list[tuple[datetime, str]] = field(default_factory=list)
    """When a call was answered, and by which version."""
    failures: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled."""
        number = 0
        async with triton.InferenceServerClient(self.address) as client:
            while True:
                number += 1
                await self._call(client, number)
                await asyncio.sleep(1 / RATE)

    async def _call(self, client: triton.InferenceServerClient, number: int) -> None:
        pixels = IMAGES[number % 3 : number % 3 + 1]
        tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
        tensor.set_data_from_numpy(pixels)
        try:
            answer = await client.infer(MODEL, [tensor], headers={"irisloop-key": f"visitor-{number}"})
        except InferenceServerException as error:
            self.failures.append(str(error))
            return
        self.answers.append((datetime.now(UTC), answer.get_response().model_version))

    def between(self, first: datetime, last: datetime) -> set[str]:
        """The versions that answered then."""
        return {version for at, version in self.answers if first <= at < last}

    def count(self, first: datetime) -> int:
        """Answers since then."""
        return sum(at >= first for at, _ in self.answers)

    def newest(self, count: int) -> set[str]:
        """The versions of the last so many answers."""
        return {version for _, version in self.answers[-count:]}


@dataclass
class Cameras:
    """Four that send a picture a second each, as a plain PNG."""

    bootstrap: str
    sent: int = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True) as producer:
            while True:
                for camera in CAMERAS:
                    headers = [("content-type", b"image/png"), ("ce_id", f"frame-{self.sent}".encode())]
                    await producer.send_and_wait(
                        "irisloop.ingest.frame.captured.v1", picture(self.sent), key=camera.encode(), headers=headers
                    )
                    self.sent += 1
                await asyncio.sleep(1.0)


def picture(seed: int) -> bytes:
    """Grey noise as PNG."""
    file = io.BytesIO()
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (16, 16)).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


@dataclass
class Loop:
    """The deployment, its client, and registry's own words."""

    deployment: Deployment
    client: Client
    registry: registry_pb2_grpc.RegistryServiceAsyncStub
    bus: KafkaBus

    async def register(self, run: str, seed: int) -> str:
        """A tiny package as a version, by hand."""
        async with ObjectStore(str(self.deployment.home / "objects"), "process") as objects:
            files = tiny.package_files(seed, run_id=run)
            package = await tiny.store(objects, self.deployment.home, files)
        request = pb.RegisterVersionRequest(model=MODEL, package=package, run_id=run, class_names=tiny.CLASSES)
        return (await self.registry.RegisterVersion(request)).version.version

    async def model(self) -> pb.Model:
        """As registry has it."""
        return (await self.registry.GetModel(pb.GetModelRequest(model=MODEL))).model

    async def aliases(self) -> dict[str, str]:
        """{alias: version}"""
        return {one.name: one.version for one in (await self.model()).aliases}

    async def reach(self, stage: str) -> None:
        """Wait until the rollout is there; "" is its end."""

        async def there() -> bool:
            model = await self.model()
            now = pb.Stage.Name(model.rollout.stage).removeprefix("STAGE_").lower() if model.HasField("rollout") else ""
            return now == stage

        began = time.monotonic()
        await until(there, what=f"the stage {stage!r}", pause_s=0.05)
        show(f"{stage or 'the end'} after {time.monotonic() - began:.2f} s")

    async def history(self) -> list[pb.AliasMove]:
        """Every move, oldest first."""
        moves = (await self.registry.ListHistory(pb.ListHistoryRequest(model=MODEL, limit=100))).moves
        return list(reversed(moves))

    async def moved(self, alias: str, version: str) -> datetime:
        """When an alias came to a version, or a version to a stage (`rollout/canary`)."""
        moves = await self.history()
        found = next(one for one in reversed(moves) if (one.alias, one.to_version) == (alias, version))
        return found.moved_at.ToDatetime(tzinfo=UTC)

    async def shadows(self) -> set[tuple[str, bool]]:
        """(version, whether on a camera's frame) of every prediction that was only compared."""
        records = [record for number in range(6) for record in await self.bus.read(PREDICTION_MADE, number)]
        made = [serving_pb2.PredictionMade.FromString(record.value).prediction for record in records]
        return {(one.version, bool(one.asset_id)) for one in made if one.role == "shadow"}

    async def sees(self) -> bool:
        """Whether a camera's frame has come through to a prediction."""
        records = [record for number in range(6) for record in await self.bus.read(PREDICTION_MADE, number)]
        return any(serving_pb2.PredictionMade.FromString(one.value).prediction.asset_id for one in records)


@asynccontextmanager
async def loop(home: Path) -> AsyncIterator[Loop]:
    """All of it, with version 1 live for clients and cameras, both under way."""
    policies = await asyncio.to_thread(write_policies, home)
    async with up(home, **policies) as deployment, AsyncExitStack() as stack:
        processes = await deployment.processes()
        state = await deployment.json("status")
        address = {name: f"127.0.0.1:{one['grpc_port']}" for name, one in processes.items()}
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address["registry"]))
        kafka = KafkaSettings(bootstrap_servers=state["bootstrap_servers"])
        bus = await stack.enter_async_context(KafkaBus(CommonSettings(home=home, kafka=kafka), "e2e"))
        client = Client(address["serving"])
        found = Loop(deployment, client, registry_pb2_grpc.RegistryServiceStub(channel), bus)
        assert await found.register("run-1", GOOD) == "1"
        await deployment.command("models", "promote", MODEL, "1")
        await deployment.command("models", "bind", MODEL, "--camera", "gate-*")
        await wait_live(address["serving"], MODEL, 120.0)
        work = [asyncio.create_task(one.run()) for one in (client, Cameras(kafka.bootstrap_servers))]
        try:
            yield found
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)


def write_policies(home: Path) -> dict[str, str]:
    """Stages that few calls pass, and a monitor that speaks often; as settings."""
    home.mkdir(parents=True, exist_ok=True)
    monitor = yaml.safe_load((REPOSITORY / "services" / "monitor" / "policy.yaml").read_text())
    monitor["challenge"]["say_every"] = 20
    (home / "monitor.yaml").write_text(yaml.safe_dump(monitor))
    (home / "registry.yaml").write_text(REGISTRY_POLICY)
    return {
        "IRISLOOP_MONITOR__POLICY": str(home / "monitor.yaml"),
        "IRISLOOP_REGISTRY__POLICY": str(home / "registry.yaml"),
    }


async def test_a_version_passes_its_stages_a_bad_one_goes_by_itself_and_a_rollback_is_quick(
    tmp_path: Path,
) -> None:
    async with loop(tmp_path / "home") as found:
        await passes_its_stages(found)
        await bad_one_is_withdrawn(found)
        await is_rolled_back(found)
        assert found.client.failures == []


async def passes_its_stages(found: Loop) -> None:
    """Version 2 answers like version 1: shadow, canary, and after a person's yes the watch, which ends by itself."""
    client, command = found.client, found.deployment.command
    await until(found.sees, what="a prediction of a frame", pause_s=0.05)
    began = datetime.now(UTC)
    assert await found.register("run-2", GOOD) == "2"
    assert "2 shadow" in await command("models", "rollout", MODEL, "2", "--stage", "shadow", "--automatic")
    await found.reach("canary")
    canary = await found.moved("rollout/canary", "2")
    assert client.between(began, canary) == {"1"}, "nobody heard the shadow"
    await until(partial(heard, client, {"1", "2"}), what="an answer of the canary", pause_s=0.05)
    assert "2 canary 0.5" in await command("models", "rollout", MODEL)
    await command("models", "promote", MODEL, "2", "--reason", "as good as the one before")
    await found.reach("")
    watched = client.count(await found.moved("rollout/watch", "2"))
    show(f"the watch ended after {watched} calls")
    assert watched >= WATCH_PAIRS, "pairs of the canary do not count for the watch"
    moves = await found.history()
    stages = [one.alias for one in moves if one.alias.startswith("rollout/") and one.to_version == "2"]
    assert stages == ["rollout/shadow", "rollout/canary", "rollout/watch"]
    assert (moves[-1].moved_by, moves[-1].reason[:17]) == ("monitor", "no longer watched")
    assert (await found.aliases())["champion"] == "2"
    await until(partial(heard, client, {"2"}), what="the new champion alone", pause_s=0.05)
    await until(
        partial(compared, found, ("2", False), ("2", True)), what="a comparison on a call and on a frame", pause_s=0.05
    )


async def bad_one_is_withdrawn(found: Loop) -> None:
    """Version 3 says something else than the champion: it goes by itself, and no client heard it."""
    assert await found.register("run-3", BAD) == "3"
    await found.deployment.command("models", "rollout", MODEL, "3", "--stage", "shadow", "--automatic")
    await found.reach("")
    assert found.client.between(await found.moved("rollout/shadow", "3"), datetime.now(UTC)) == {"2"}
    last = (await found.history())[-1]
    assert last.moved_by == "monitor"
    assert "withdrawn" in last.reason
    assert "disagreement" in last.reason
    assert {on_frame for version, on_frame in await found.shadows() if version == "3"}, "on calls or on frames"


async def is_rolled_back(found: Loop) -> None:
    """One command, and within seconds every answer is the version before's.

    The bound is for what the services do: on a busy machine the command's own start may take longer than they.
    """
    began = time.monotonic()
    assert "champion is version 1" in await found.deployment.command("models", "rollback", MODEL, "--reason", "e2e")
    said = time.monotonic() - began
    await until(partial(heard, found.client, {"1"}), what="the version before", pause_s=0.05)
    decided = await found.moved("champion", "1")
    late = max(at for at, version in found.client.answers if version == "2") - decided
    show(f"rollback: {said:.2f} s with the command's start, {late.total_seconds():.2f} s from decision to last answer")
    assert late < timedelta(seconds=BACK_S)


async def compared(found: Loop, *wanted: tuple[str, bool]) -> bool:
    """Whether such answers were compared with the champion's."""
    return set(wanted) <= await found.shadows()


def show(line: str) -> None:
    """For who runs it with `-s`."""
    sys.stdout.write(f"{line}\n")


async def heard(client: Client, versions: set[str]) -> bool:
    """Whether the newest answers are of exactly these."""
    return client.newest(20 if len(versions) > 1 else 5) == versions
