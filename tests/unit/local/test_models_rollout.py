"""`irisloop models rollout`: what it asks of registry, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.registry.v1 import registry_pb2_grpc

from services.local.cli.app import run

CANARY = pb.Rollout(
    id="id",
    model="parts",
    champion="3",
    challenger="4",
    stage=pb.STAGE_CANARY,
    arms=[pb.Arm(name="canary", version="4", share=0.1)],
    stage_since=Timestamp(seconds=1_800_000_000),
    started_by="ann",
    reason="new lens",
    automatic=True,
)


class FakeRegistry(registry_pb2_grpc.RegistryServiceServicer):
    """Notes what it is asked; has the rollout that a test gives it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.rollout: pb.Rollout | None = None

    def GetModel(self, request: Any, context: Any) -> pb.GetModelResponse:
        self.asked.append(request)
        return pb.GetModelResponse(model=pb.Model(name="parts", rollout=self.rollout))

    def PutRollout(self, request: Any, context: Any) -> pb.PutRolloutResponse:
        self.asked.append(request)
        return pb.PutRolloutResponse(rollout=CANARY)

    def EndRollout(self, request: Any, context: Any) -> pb.EndRolloutResponse:
        self.asked.append(request)
        return pb.EndRolloutResponse(model=pb.Model(name="parts"))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    fake, server = FakeRegistry(), grpc.server(ThreadPoolExecutor(1))  # type: ignore[abstract]
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("IRISLOOP_ADDRESSES__REGISTRY", f"127.0.0.1:{port}")
    monkeypatch.setenv("COLUMNS", "200")
    yield fake
    server.stop(None).wait()


def asked(registry: FakeRegistry, words: str) -> Any:
    assert run(["models", "rollout", *words.split()]) == 0
    return registry.asked[-1]


def test_a_canary_is_asked_for_and_shown(registry: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    request = asked(registry, "parts 4 --stage canary --share 0.1 --automatic --reason lens")
    assert request == pb.PutRolloutRequest(
        model="parts", challenger="4", stage=pb.STAGE_CANARY, share=0.1, reason="lens", automatic=True
    )
    said = capsys.readouterr().out
    assert "parts: 4 canary 0.1, beside version 3; goes on by itself." in said
    assert "Since 2027-01-15 08:00:00 UTC, begun by ann: new lens" in said


def test_arms_make_an_experiment(registry: FakeRegistry) -> None:
    arms = [pb.Arm(name="b", version="4", share=0.2), pb.Arm(name="c", version="best", share=0.3)]
    request = asked(registry, "parts --arm b=4:0.2 --arm c=best:0.3")
    assert request == pb.PutRolloutRequest(model="parts", stage=pb.STAGE_EXPERIMENT, arms=arms)


def test_what_is_under_way_is_shown_and_ended(registry: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(registry, "parts") == pb.GetModelRequest(model="parts")
    assert "parts: no rollout is under way." in capsys.readouterr().out
    registry.rollout = CANARY
    asked(registry, "parts --json")
    assert json.loads(capsys.readouterr().out)["stage"] == "STAGE_CANARY"
    assert asked(registry, "parts --end --reason done") == pb.EndRolloutRequest(model="parts", reason="done")
    assert "parts: no rollout is under way." in capsys.readouterr().out
