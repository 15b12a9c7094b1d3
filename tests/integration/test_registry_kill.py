"""Registry as a process on a real Kafka, killed while runs finish: each is judged once, nothing is left by halves."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.registry.v1 import registry_pb2_grpc
from irisloop.topics import ALIAS_MOVED, ALIASES_PUBLISHED, VERSION_JUDGED

from services.common.bus import Delivery, KafkaBus, Topic, decode
from services.common.grpc import call, channel
from services.common.settings import CommonSettings, KafkaSettings
from tests.integration.ingest_house import running_kafka
from tests.integration.service_process import ServiceProcess
from tests.unit.registry.world import FIRST, aliases_of, better, finished, report, run
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

MODELS = ("garments", "gates")
RUNS = 50
"""A model."""


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    async with running_kafka(tmp_path / "kafka") as settings:
        yield settings


@pytest.fixture
async def registry(tmp_path: Path, kafka: KafkaSettings) -> AsyncIterator[ServiceProcess]:
    one = ServiceProcess("registry", tmp_path / "home", kafka)
    one.start()
    try:
        yield one
    finally:
        one.kill()


@pytest.fixture
async def bus(tmp_path: Path, kafka: KafkaSettings) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(CommonSettings(home=tmp_path / "test", kafka=kafka), "trainer") as bus:
        yield bus


async def said(bus: KafkaBus, topic: Topic[Any]) -> list[Delivery[Any]]:
    """Everything on a topic of one partition, in order."""
    return [decode(record, topic) for record in await bus.read(topic, 0)]


async def judged(bus: KafkaBus, wanted: int) -> list[Delivery[pb.VersionJudged]]:
    """What was judged, once as many runs were and a moment has passed: one too many is as wrong as one too few."""

    async def enough() -> bool:
        return len({one.ce_id for one in await said(bus, VERSION_JUDGED)}) >= wanted

    await until(enough, what=f"the last of {wanted} judgements", pause_s=0.1)
    await asyncio.sleep(0.5)
    return await said(bus, VERSION_JUDGED)


async def finish_runs(bus: KafkaBus) -> None:
    """Each run is better than the champion, but for every fifth, which is bad."""
    champion = ""
    for number in range(RUNS):
        evaluation = better(champion) if champion else FIRST
        if number % 5 == 4:
            evaluation = report({"all": 0.1})
        else:
            champion = str(number + 1)
        await bus.publish([finished(run(f"{model}-{number}", evaluation, model=model)) for model in MODELS])
        await asyncio.sleep(0.03)


async def test_kills_while_runs_finish_judge_each_run_once_and_leave_nothing_by_halves(
    registry: ServiceProcess, bus: KafkaBus
) -> None:
    dice = random.Random(7)
    await registry.ready()
    sending = asyncio.create_task(finish_runs(bus))
    for _ in range(3):
        before = len(await said(bus, VERSION_JUDGED))
        while len(await said(bus, VERSION_JUDGED)) <= before and not sending.done():
            await asyncio.sleep(0.02)
        await asyncio.sleep(dice.uniform(0.0, 0.15))
        registry.kill()
        registry.start()
        await registry.ready()
    await sending
    verdicts = await judged(bus, RUNS * len(MODELS))

    once = {one.ce_id: one.value.version for one in verdicts}
    runs = Counter(version.run_id for version in once.values())
    assert runs == Counter(f"{model}-{number}" for model in MODELS for number in range(RUNS))
    for model in MODELS:
        numbers = [int(version.version) for version in once.values() if version.model == model]
        assert numbers == list(range(1, RUNS + 1)), "in the order of the runs, none left out"
    await check_history(registry, bus, once)


async def all_published(registry: ServiceProcess, bus: KafkaBus) -> bool:
    """Whether each model's last map and all of its moves have gone out."""
    maps = {one.value.model: aliases_of(one.value) for one in await said(bus, ALIASES_PUBLISHED)}
    moves = {one.value.move.id for one in await said(bus, ALIAS_MOVED)}
    async with channel(f"127.0.0.1:{registry.grpc_port}") as connection:
        stub = registry_pb2_grpc.RegistryServiceStub(connection)
        for model in MODELS:
            stored = (await call(stub.GetModel, pb.GetModelRequest(model=model))).model
            history = (await call(stub.ListHistory, pb.ListHistoryRequest(model=model, limit=1000))).moves
            aliases = {alias.name: alias.version for alias in stored.aliases}
            if maps.get(model) != aliases or not moves.issuperset(move.id for move in history):
                return False
    return True


async def check_history(registry: ServiceProcess, bus: KafkaBus, once: dict[str, pb.ModelVersion]) -> None:
    """The published maps are those that the history makes; both end where the database stands."""
    await until(lambda: all_published(registry, bus), what="the last map of each model", pause_s=0.1)
    published = {one.ce_id: one.value for one in await said(bus, ALIASES_PUBLISHED)}
    moves = {one.ce_id: one.value.move for one in await said(bus, ALIAS_MOVED)}
    async with channel(f"127.0.0.1:{registry.grpc_port}") as connection:
        stub = registry_pb2_grpc.RegistryServiceStub(connection)
        for model in MODELS:
            maps = [value for value in published.values() if value.model == model]
            assert [value.revision for value in maps] == list(range(1, len(maps) + 1))
            aliases: dict[str, str] = {}
            for move in (move for move in moves.values() if move.model == model):
                assert aliases.get(move.alias, "") == move.from_version
                aliases[move.alias] = move.to_version
            stored = (await call(stub.GetModel, pb.GetModelRequest(model=model))).model
            assert aliases == aliases_of(maps[-1]) == {alias.name: alias.version for alias in stored.aliases}
            history = (await call(stub.ListHistory, pb.ListHistoryRequest(model=model, limit=1000))).moves
            assert [move.id for move in reversed(history)] == [m.id for m in moves.values() if m.model == model]
            accepted = [v.version for v in once.values() if (v.model, v.state) == (model, pb.VERSION_STATE_ACCEPTED)]
            assert accepted == [str(number + 1) for number in range(RUNS) if number % 5 != 4]
            assert aliases["champion"] == accepted[-1]
            assert aliases["previous"] == aliases["shadow"] == accepted[-2]


async def test_a_process_answers_by_http_and_grpc_and_stops_in_order(registry: ServiceProcess, bus: KafkaBus) -> None:
    await registry.ready()
    await bus.publish([finished(run())])
    (verdict,) = await judged(bus, 1)
    assert verdict.traceparent.split("-")[1] == "ab" * 16
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{registry.http_port}", timeout=60) as client:
        model = (await client.get("/api/v1/models/garments")).json()

        async def counted() -> bool:
            return 'irisloop_registry_versions_total{state="accepted"} 1.0' in (await client.get("/metrics")).text

        await until(counted, what="the version's count")
    assert model["aliases"] == [{"name": "champion", "version": "1"}]
    async with channel(f"127.0.0.1:{registry.grpc_port}") as connection:
        stub = registry_pb2_grpc.RegistryServiceStub(connection)
        versions = (await call(stub.ListVersions, pb.ListVersionsRequest(model="garments"))).versions
    assert list(versions) == [verdict.value.version]
    assert registry.process is not None
    registry.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(registry.process.wait, 60) == 0


async def test_a_bad_policy_file_is_a_sentence_and_a_code_for_people(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("policies:\n  - better_by: 1\n")
    own = {"IRISLOOP_REGISTRY__POLICY": str(policy)}
    registry = ServiceProcess("registry", tmp_path / "home", KafkaSettings(bootstrap_servers="127.0.0.1:1"), own)
    process = registry.start()
    assert await asyncio.to_thread(process.wait, PATIENCE_S) == 78
    assert f"The policy file {policy} is not valid: policies[0]: unknown key `better_by`" in registry.log()
    assert "Traceback" not in registry.log()
