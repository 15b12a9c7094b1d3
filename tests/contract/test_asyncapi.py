"""The AsyncAPI document says of headers and topics what the kit really writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from irisloop.topics import TOPICS

from services.common.bus.api import Event, Record, Topic
from services.common.bus.cloudevents import headers_of
from services.common.bus.deadletter import dead_letter_topics, letter_headers
from services.common.errors import InvalidMessage
from tools.asyncapi import DOCUMENT

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_an_events_headers_are_the_documented_ones(document: dict[str, Any], topic: Topic[Any]) -> None:
    event = Event(topic, "key", topic.message(), "an-id", NOON, traceparent=TRACE)
    documented = document["components"]["messageTraits"]["cloudEvents"]["headers"]
    written = dict(headers_of(event, "/irisloop/test"))
    assert set(written) == set(documented["properties"])
    constants = {name: each["const"] for name, each in documented["properties"].items() if "const" in each}
    assert {name: written[name].decode() for name in constants} == constants


def test_a_dead_letters_headers_are_the_documented_ones(document: dict[str, Any]) -> None:
    record = Record(TOPICS[0].name, 3, 7, NOON, b"gate-1", b"?", ())
    written = {name for name, _ in letter_headers(record, "ingest", "store-frames", InvalidMessage("broken"))}
    documented = document["components"]["messages"]["DeadLetter"]["headers"]
    assert written == set(documented["properties"]) == set(documented["required"])


def test_every_topic_and_every_dead_letter_topic_is_a_channel(document: dict[str, Any]) -> None:
    channels = document["channels"]
    assert {topic.name for topic in TOPICS} <= set(channels)
    spelled = {
        each["address"].replace("{service}", service)
        for each in channels.values()
        for service in each.get("parameters", {}).get("service", {}).get("enum", [])
    }
    assert spelled == {name for name, _ in dead_letter_topics()}
