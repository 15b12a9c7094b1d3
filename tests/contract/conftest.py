"""The houses of the bus's contract; one Kafka serves them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.broker import Broker
from tests.contract.houses import House, KafkaHouse, MemoryHouse
from tests.leftovers import leftovers

__all__ = ["leftovers"]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the whole session."""
    broker = Broker(tmp_path_factory.mktemp("contract") / "kafka")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def house(request: pytest.FixtureRequest) -> House:
    """Each test of the contract runs in both."""
    return MemoryHouse() if request.param == "memory" else KafkaHouse(request.getfixturevalue("kafka"))
