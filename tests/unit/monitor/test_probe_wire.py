"""A probe's events between contract and judge: what is written is what is read."""

from __future__ import annotations

from typing import Any

import pytest
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import PROBE_ANSWERED, PROBE_ENDED, PROBE_REQUESTED

from services.common.bus import Delivery, Event, MemoryBus
from services.common.errors import InvalidMessage
from services.monitor import wire
from services.monitor.domain.probe_events import ProbeEnded, ProbeRequest, ProbeVerdict, ProbeWord, Reread
from services.monitor.wire_probe import word_message, word_of
from services.monitor.wire_said import finding_of

AT = 1_700_000_000.25
TRACE = "00-148de9c5a7a44d19e56cd9ae1a554bf6-7847afb0c58f6e12-01"
REQUEST = ProbeRequest(AT, TRACE, "p", "m", "3", "i", ("a", "b"), ("gate-1",), AT - 60.0, 30, AT + 3600.0)


async def delivered(event: Event[Any]) -> Delivery[Any]:
    bus = MemoryBus()
    await bus.publish([event])
    (delivery,) = bus.events(event.topic)
    return delivery


async def test_a_request_read_back_is_the_request() -> None:
    event = wire.event_of(REQUEST)
    assert (event.topic, event.key, event.ce_id) == (PROBE_REQUESTED, "m", "p")
    assert finding_of(await delivered(event)) == REQUEST


async def test_an_answer_and_an_end_are_inputs_at_the_time_they_were_given() -> None:
    answer = labeling_pb2.ProbeAnswered(
        probe_id="p", model="m", incident_id="i", asset_id="x", class_before="a", class_now="b",
        annotated_before_by="ann", annotated_now_by="ben", propensity=0.25, revision=2,
    )  # fmt: skip
    answer.annotated_now_at.CopyFrom(wire.stamp(AT))
    heard = wire.input_of(await delivered(Event(PROBE_ANSWERED, "m", answer, "c-1", wire.moment(AT + 9), TRACE)))
    assert heard == Reread(AT, "c-1", TRACE, "m", "p", "x", "a", "b", "ann", "ben", 0.25, 2)
    end = labeling_pb2.ProbeEnded(
        probe_id="p", model="m", reason=labeling_pb2.PROBE_END_NO_ASSETS, drawn=3, answered=1, skipped=1, deleted=1
    )
    heard = wire.input_of(await delivered(Event(PROBE_ENDED, "m", end, "c-2", wire.moment(AT), TRACE)))
    assert heard == ProbeEnded(AT, "c-2", TRACE, "m", "p", "no_assets", 3, 1, 1, 1)


@pytest.mark.parametrize("field", ["probe_id", "model", "asset_id", "class_before", "class_now"])
async def test_what_an_answer_lacks_is_named(field: str) -> None:
    whole = {"probe_id": "p", "model": "m", "asset_id": "x", "class_before": "a", "class_now": "b"}
    answer = labeling_pb2.ProbeAnswered(**{**whole, field: ""})  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage) as caught:
        wire.input_of(await delivered(Event(PROBE_ANSWERED, "m", answer, "c", wire.moment(AT))))
    assert caught.value.field == field


@pytest.mark.parametrize("verdict", list(ProbeVerdict))
def test_an_incidents_word_about_its_probe_is_the_same_on_both_sides(verdict: ProbeVerdict) -> None:
    word = ProbeWord("p", verdict, 18, 17, 12, 1, "ben", "why", AT, AT + 5.0)
    assert word_of(pb.IncidentProbe.FromString(word_message(word).SerializeToString())) == word
