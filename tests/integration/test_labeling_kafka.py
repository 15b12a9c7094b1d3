"""Labeling as a process on a real Kafka: killed at work, it loses no label and says none twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.labeling.v1 import labeling_pb2_grpc
from irisloop.topics import ANNOTATION_CONFIRMED, DATASET_VERSION_CREATED

from services.common.bus import KafkaBus, Topic, decode
from services.common.errors import Transient
from services.common.grpc import call, channel
from services.common.settings import CommonSettings, KafkaSettings
from services.labeling import codec
from tests.integration.ingest_house import REPOSITORY, running_kafka
from tests.ports import free_port
from tests.unit.labeling.world import CLASSES, START, asset, predicted, stored, stream
from tests.waiting import until

if TYPE_CHECKING:
    from irisloop.labeling.v1.labeling_pb2_grpc import LabelingServiceAsyncStub as Stub

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

READY_S = 120.0
FRAMES = 200
IMPORTED = 4_000


@dataclass
class LabelingProcess:
    """`python -m services.labeling` that asks about every prediction."""

    home: Path
    kafka: KafkaSettings
    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Until it says that it is ready."""
        environment = os.environ | {
            "IRISLOOP_HOME": str(self.home),
            "IRISLOOP_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "IRISLOOP_LABELING__HTTP_PORT": str(self.http_port),
            "IRISLOOP_LABELING__GRPC_PORT": str(self.grpc_port),
            "IRISLOOP_LABELING__UNIFORM_SHARE": "1",
            "IRISLOOP_LABELING__TASKS_PER_SECOND": "1000000",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto" / "gen")]),
        }
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", "services.labeling"]
            self.process = subprocess.Popen(  # noqa: ASYNC220 - its pipes are files
                command, env=environment, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT
            )
        async with httpx.AsyncClient() as client:
            await until(lambda: self._is_ready(client), READY_S, what="labeling, ready,", pause_s=0.1)

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "log.txt").read_text()[-3_000:]
        with suppress(httpx.TransportError):
            return (await client.get(f"http://127.0.0.1:{self.http_port}/readyz")).status_code == 200
        return False

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[Stub]:
        """A client that finds it again after a restart."""
        async with channel(f"127.0.0.1:{self.grpc_port}") as connection:
            yield labeling_pb2_grpc.LabelingServiceStub(connection)


async def insist(method: Callable[..., Awaitable[Any]], request: Any) -> Any:
    """Call until it is answered, as a client does whose server was killed."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return await call(method, request)
        except Transient:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def identities(bus: KafkaBus, topic: Topic[Any]) -> list[str]:
    """The ce_ids of every committed record."""
    partitions = topic.partitions or 6
    return [decode(record, topic).ce_id for number in range(partitions) for record in await bus.read(topic, number)]


def imports(first: int, count: int) -> pb.ImportAnnotationsRequest:
    request = pb.ImportAnnotationsRequest(dataset="garments", class_names=CLASSES)
    for number in range(first, first + count):
        one = asset(f"old-{number}", "import/first", START - IMPORTED + number)
        request.annotations.add(
            asset_id=one.id,
            camera_id=one.camera_id,
            captured_at=codec.timestamp(one.captured_at),
            object=codec.object_message(one.object),
            labels=[pb.Label(class_name=CLASSES[number % 3])],
        )
    return request


@pytest.fixture
async def labeling(tmp_path: Path) -> AsyncIterator[LabelingProcess]:
    async with running_kafka(tmp_path / "kafka") as kafka:
        process = LabelingProcess(tmp_path / "home", kafka)
        try:
            yield process
        finally:
            process.kill()


async def killed_while(labeling: LabelingProcess, work: Awaitable[Any], seconds: float) -> Any:
    """Kill and restart it after a moment of the work, which goes on."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    labeling.kill()
    await labeling.start()
    return await task


async def import_all(stub: Stub) -> None:
    for first in range(0, IMPORTED, 500):
        await insist(stub.ImportAnnotations, imports(first, 500))


async def answer_all(stub: Stub) -> int:
    """Lease and answer ten at a time until nothing is left; a lease of a second is soon over when nobody answers."""
    answered = 0
    while True:
        leased = await insist(stub.LeaseTasks, pb.LeaseTasksRequest(limit=10, lease_seconds=1))
        if not leased.tasks:
            counts = (await insist(stub.ListTasks, pb.ListTasksRequest(limit=1))).counts
            if not counts["leased"] and not counts["open"]:
                return answered
            await asyncio.sleep(0.2)
            continue
        answers = [pb.TaskAnswer(task_id=task.id, labels=[pb.Label(class_name="boot")]) for task in leased.tasks]
        answered += len((await insist(stub.AnswerTasks, pb.AnswerTasksRequest(answers=answers))).annotations)


async def test_no_label_is_lost_or_said_twice_by_kills_at_work(labeling: LabelingProcess, tmp_path: Path) -> None:
    await labeling.start()
    reader = KafkaBus(CommonSettings(home=tmp_path / "reader", kafka=labeling.kafka), "test")
    async with labeling.stub() as stub, reader as bus:
        await killed_while(labeling, import_all(stub), 0.3)
        frames = stream(FRAMES)
        await bus.publish([*map(stored, frames), *map(predicted, frames)])

        async def all_asked() -> bool:
            return bool((await insist(stub.ListTasks, pb.ListTasksRequest(limit=1))).counts["open"] == FRAMES)

        await until(all_asked, what="a task for every frame", pause_s=0.1)
        wanted = pb.RequestDatasetVersionRequest(request_id="r-1", dataset="garments", labels_wanted=FRAMES)
        wanted.labels_since.CopyFrom(codec.timestamp(START))
        assert not (await insist(stub.RequestDatasetVersion, wanted)).HasField("version")
        await killed_while(labeling, answer_all(stub), 0.5)

        async def is_cut() -> bool:
            return bool((await insist(stub.RequestDatasetVersion, wanted)).HasField("version"))

        await until(is_cut, what="the version", pause_s=0.1)
        version = (await insist(stub.RequestDatasetVersion, wanted)).version
        assert (version.version, version.condition_labels) == (1, FRAMES)
        assert sum(split.assets for split in version.splits) == IMPORTED + FRAMES

        async def all_said() -> bool:
            return len(set(await identities(bus, ANNOTATION_CONFIRMED))) == IMPORTED + FRAMES

        await until(all_said, what="an event for every label", pause_s=0.1)
        await until(lambda: identities(bus, DATASET_VERSION_CREATED), what="the version's event", pause_s=0.1)
        assert len(set(await identities(bus, DATASET_VERSION_CREATED))) == 1
