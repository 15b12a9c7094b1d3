"""Trainer as a process on a real Kafka, killed in an epoch: the run goes on there, ends once, and leaves no orphan."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest
from irisloop.labeling.v1 import labeling_pb2, labeling_pb2_grpc
from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc
from irisloop.topics import RUN_FINISHED, RUN_PROGRESSED
from irisloop.trainer.v1 import trainer_pb2 as pb
from irisloop.trainer.v1 import trainer_pb2_grpc

from services.common.bus import KafkaBus, Topic, decode
from services.common.grpc import call, channel, create_grpc
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings, KafkaSettings
from services.common.signing import Verifier
from tests.integration.ingest_house import running_kafka
from tests.integration.service_process import ServiceProcess
from tests.unit.trainer.pictures import CLASSES, cut, pictures
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

EPOCHS = 60


class Labeling(labeling_pb2_grpc.LabelingServiceServicer):
    """Has one dataset version."""

    def __init__(self, manifest: str) -> None:
        self.version = labeling_pb2.DatasetVersion(dataset="bars", version=1, class_names=CLASSES)
        self.version.manifest.digest = manifest

    async def GetDatasetVersion(self, request: Any, context: Any) -> labeling_pb2.GetDatasetVersionResponse:
        return labeling_pb2.GetDatasetVersionResponse(version=self.version)


class Registry(registry_pb2_grpc.RegistryServiceServicer):
    """Has no model yet."""

    async def GetVersion(self, request: Any, context: Any) -> registry_pb2.GetVersionResponse:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        raise AssertionError("abort always raises")


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    home = tmp_path / "home"
    async with ObjectStore(str(home / "objects")) as objects:
        manifest = await cut(objects, pictures())

    def add(server: grpc.aio.Server) -> None:
        labeling_pb2_grpc.add_LabelingServiceServicer_to_server(Labeling(manifest), server)  # type: ignore[abstract]
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(Registry(), server)  # type: ignore[abstract]

    neighbours = create_grpc(add)
    address = f"127.0.0.1:{neighbours.server.add_insecure_port('127.0.0.1:0')}"
    await neighbours.server.start()
    own = {
        "IRISLOOP_ADDRESSES__LABELING": address,
        "IRISLOOP_ADDRESSES__REGISTRY": address,
        "IRISLOOP_TRAINER__BATCH": "32",
        "IRISLOOP_TRAINER__THREADS": "1",
    }
    async with running_kafka(tmp_path / "kafka") as kafka:
        one = ServiceProcess("trainer", home, kafka, own)
        one.start()
        try:
            yield one
        finally:
            one.kill()
    await neighbours.server.stop(None)


async def said(kafka: KafkaSettings, home: Path, topic: Topic[Any]) -> list[Any]:
    """Everything on a topic of one partition, each event once."""
    async with KafkaBus(CommonSettings(home=home, kafka=kafka), "test") as bus:
        deliveries = [decode(record, topic) for record in await bus.read(topic, 0)]
    return list({delivery.ce_id: delivery.value for delivery in deliveries}.values())


async def told(trainer: ServiceProcess, home: Path) -> list[Any]:
    """Ends of runs. They are said in order behind the database, so all before them has been said, too."""
    ends: list[Any] = await until(lambda: said(trainer.kafka, home, RUN_FINISHED), what=trainer.log, pause_s=0.1)
    return ends


def ended(process: psutil.Process) -> bool:
    """Whether it runs no more; who it is left to may not have taken note of it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def epochs_of(log: str) -> list[int]:
    """Those that trainer heard of from its processes, in order."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line["epoch"] for line in lines if line.get("event") == "epoch_done"]


async def test_a_trainer_killed_in_an_epoch_goes_on_there(trainer: ServiceProcess, tmp_path: Path) -> None:
    await trainer.ready()
    async with channel(f"127.0.0.1:{trainer.grpc_port}") as connection:
        stub = trainer_pb2_grpc.TrainerServiceStub(connection)

        async def at(run_id: str, epoch: int) -> pb.Run:
            async def there() -> pb.Run | None:
                run = (await call(stub.GetRun, pb.GetRunRequest(run_id=run_id))).run
                return run if run.epoch >= epoch and (epoch < EPOCHS or run.HasField("finished_at")) else None

            found: pb.Run = await until(there, 250, what=trainer.log)
            return found

        request = pb.StartRunRequest(model="bars", dataset="bars", dataset_version=1, seed=7, epochs=EPOCHS)
        run = (await call(stub.StartRun, request)).run
        reached = (await at(run.id, 2)).epoch
        assert trainer.process is not None
        (child,) = psutil.Process(trainer.process.pid).children()
        trainer.kill()
        await until(lambda: ended(child), what="the end of the process, which is to die with trainer")
        checkpoint = trainer.home / "trainer" / "runs" / run.id / "checkpoint.pt"
        assert checkpoint.exists()
        trainer.start()
        await trainer.ready()
        done = await at(run.id, EPOCHS)

    assert (done.state, done.attempts, done.error) == (pb.RUN_STATE_SUCCEEDED, 2, "")
    assert done.report.scores[0].conditions[0].accuracy > 0.9
    Verifier.of_home(trainer.home).verify(done.package.digest, done.package.signature, done.package.key_id)
    finished = await told(trainer, tmp_path)
    trainer.kill()
    logged = epochs_of((trainer.home / "log.txt").read_text())
    epochs = [event.epoch for event in await said(trainer.kafka, tmp_path, RUN_PROGRESSED)]
    assert epochs == sorted(set(epochs)), "it went on where it was, no epoch was trained twice"
    assert logged == [epoch for epoch in epochs if epoch in logged], "what is logged has been written, and is said"
    assert len(epochs) - len(logged) <= 1, "the kill may come between an epoch's transaction and its line in the log"
    missing = sorted(set(range(1, EPOCHS + 1)) - set(epochs))
    assert not missing or missing[0] > reached, "only those that nobody heard of before the kill"
    assert [event.run for event in finished] == [done]
