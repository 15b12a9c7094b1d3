"""Late labels on the bus, with kills in the middle: what people are told equals an offline run over all events."""

from __future__ import annotations

import random
from typing import Any

import pytest
from irisloop.labeling.v1 import labeling_pb2 as labeling
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import ANNOTATION_CONFIRMED

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.monitor import wire, wire_quality
from services.monitor.domain.quality.truth import UNKNOWN, Truth
from services.monitor.handlers import Judge
from services.monitor.inbound.stream import DriftStream
from services.monitor.outbound.clickhouse import NoAnalytics
from services.monitor.queries import Reader
from tests.unit.monitor.late_labels import events, offline
from tests.unit.monitor.worlds import policy


def event(truth: Truth) -> Event[Any]:
    """The record that labeling would write; a label without a known propensity was drawn by uncertainty."""
    annotation = labeling.Annotation(
        id=f"{truth.asset_id}/{truth.revision}",
        asset_id=truth.asset_id,
        camera_id=truth.camera_id,
        captured_at=wire_quality.stamp(truth.captured_at),
        annotated_at=wire_quality.stamp(truth.given_at),
        revision=truth.revision,
        labels=[] if truth.class_name == UNKNOWN else [labeling.Label(class_name=truth.class_name)],
        withdrawn=truth.class_name == UNKNOWN,
    )
    origin = labeling.TASK_ORIGIN_UNIFORM if truth.propensity else labeling.TASK_ORIGIN_UNCERTAINTY
    references = [
        labeling.PredictionReference(
            prediction_id=key, model=s.model, version=s.version, role=s.role, class_name=s.class_name, score=s.score
        )
        for key, s in truth.said.items()
    ]
    draw = labeling.Draw(origin=origin, propensity=truth.propensity)
    value = labeling.AnnotationConfirmed(annotation=annotation, draw=draw, predictions=references)
    at = wire.moment(truth.given_at / 1e6)
    return Event(ANNOTATION_CONFIRMED, truth.camera_id, value, annotation.id, at)


@pytest.mark.parametrize("seed", range(3))
async def test_the_answer_equals_an_offline_run_over_all_labels_whoever_is_killed(seed: int) -> None:
    found, broker = events(100 + seed), MemoryBroker()
    cuts = sorted(random.Random(seed).sample(range(len(found)), 4))
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(found)], strict=True)):
        bus, judge = MemoryBus(broker, service="monitor"), Judge(policy())
        bus.stream(DriftStream(judge, pace=0.0).stream())
        await bus.publish([event(truth) for truth in found[begin:end]])
        if number % 2 == 0:  # Else it is killed before it has read them.
            await bus.settle()
            await bus.settle()
    answer = await Reader(judge, NoAnalytics()).quality(pb.GetQualityRequest(model="m", by="camera"))
    assert bus.dead_letters(ANNOTATION_CONFIRMED) == []
    assert len(answer.segments) == 6
    assert answer.labels.heard == len(found)
    for one in answer.segments:
        outcomes = offline(found, one.version, one.camera_id)
        rows = [(truth, said) for truth, said, *_ in outcomes if truth != UNKNOWN]
        assert one.labels == len(rows)
        assert one.accuracy == sum(truth == said for truth, said in rows) / len(rows)
        assert {(c.truth, c.predicted): c.count for c in one.confusion} == {row: rows.count(row) for row in set(rows)}
        drawn = [truth != said for truth, said, _, propensity, _ in outcomes if truth != UNKNOWN and propensity]
        assert (one.risk.labels, one.risk.raw_error) == (len(drawn), sum(drawn) / len(drawn))
