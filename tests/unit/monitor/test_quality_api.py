"""Quality as people ask for it: from labels on the bus to gRPC's messages and HTTP's JSON, across a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from irisloop.labeling.v1 import labeling_pb2 as labeling
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ANNOTATION_CONFIRMED, PREDICTION_MADE

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.common.errors import InvalidMessage
from services.common.http import create_http
from services.monitor import wire, wire_quality
from services.monitor.domain.policy import Policy, QualityPolicy
from services.monitor.errors import UnknownModel
from services.monitor.handlers import Judge
from services.monitor.inbound.http import routes
from services.monitor.inbound.stream import DriftStream
from services.monitor.outbound.clickhouse import NoAnalytics
from services.monitor.queries import Reader
from tests.unit.monitor.worlds import EPOCH, policy

UNIFORM = labeling.TASK_ORIGIN_UNIFORM
HOUR = 3600.0


def label(n: int, name: str, said: str = "bag", *, revision: int = 1, **more: Any) -> Event[Any]:
    """An asset's label, as labeling says it: eight hours late, the asset one of an hour that holds a hundred."""
    captured_at = EPOCH + n * HOUR / 100
    annotation = labeling.Annotation(
        id=f"{n}/{revision}",
        asset_id=f"asset-{n}",
        camera_id=f"camera-{n % 2}",
        captured_at=wire.stamp(captured_at),
        annotated_at=wire.stamp(captured_at + 8 * HOUR),
        revision=revision,
        labels=[labeling.Label(class_name=name)] if name else [],
        withdrawn=more.get("withdrawn", False),
    )
    draw = labeling.Draw(origin=more.get("origin", UNIFORM), propensity=more.get("propensity", 0.08))
    reference = labeling.PredictionReference(
        prediction_id=f"p{n}", model="m", version=more.get("version", "1"), role="champion", class_name=said, score=0.8
    )
    value = labeling.AnnotationConfirmed(annotation=annotation, draw=draw, predictions=[reference])
    return Event(ANNOTATION_CONFIRMED, annotation.camera_id, value, annotation.id, wire.moment(captured_at + 8 * HOUR))


def prediction(n: int) -> Event[Any]:
    """What the label of the same number is joined to."""
    captured_at = EPOCH + n * HOUR / 100
    made = serving_pb2.Prediction(
        id=f"p{n}", asset_id=f"asset-{n}", camera_id=f"camera-{n % 2}", model="m", version="1", role="champion",
        captured_at=wire.stamp(captured_at), scores=[serving_pb2.Score(class_name="bag", score=0.8)],
    )  # fmt: skip
    value = serving_pb2.PredictionMade(prediction=made)
    return Event(PREDICTION_MADE, f"camera/{made.camera_id}", value, made.id, wire.moment(captured_at))


def started(broker: MemoryBroker, rules: Policy) -> tuple[MemoryBus, Reader]:
    bus, judge = MemoryBus(broker, service="monitor"), Judge(rules)
    bus.stream(DriftStream(judge, pace=0.0).stream())
    return bus, Reader(judge, NoAnalytics())


async def heard(*batches: list[Event[Any]], rules: Policy | None = None) -> Reader:
    """Each batch is heard by an instance of its own, the last one of which answers."""
    broker = MemoryBroker()
    for batch in batches:
        bus, reader = started(broker, rules or policy())
        await bus.publish(batch)
        await bus.settle()
        await bus.settle()
    return reader


@pytest.fixture
async def reader() -> Reader:
    first = [label(n, "bag" if n % 10 else "boot", said="bag") for n in range(200)]
    chosen = [label(n, "boot", origin=labeling.TASK_ORIGIN_UNCERTAINTY) for n in range(200, 220)]
    later = [
        label(10, "bag", revision=2, origin=0, propensity=0),
        label(11, "", revision=2, origin=0, propensity=0, withdrawn=True),
        label(12, "bag"),
    ]
    return await heard(first, [*chosen, *later])


async def test_corrections_and_withdrawals_count_and_chosen_labels_stay_out_of_the_risk(reader: Reader) -> None:
    answer = await reader.quality(pb.GetQualityRequest(model="m"))
    (found,) = answer.segments
    assert (found.version, found.role, found.labels, found.right) == ("1", "champion", 219, 180)
    assert found.risk.labels == 199
    assert found.risk.raw_error == found.risk.weighted_error == 19 / 199
    assert found.risk.low < 19 / 199 < found.risk.high
    assert (found.risk.anytime_valid, found.risk.corrected, found.risk.confidence) == (False, 2, 0.95)
    bag, boot = found.classes
    assert (bag.class_name, bag.labels, bag.precision, bag.recall) == ("bag", 180, 180 / 219, 1.0)
    assert (boot.labels, boot.recall, boot.HasField("precision")) == (39, 0.0, False)
    assert [(one.truth, one.predicted, one.count) for one in found.confusion] == [
        ("bag", "bag", 180),
        ("boot", "bag", 39),
    ]
    assert found.calibration_error == pytest.approx(180 / 219 - 0.8)
    assert (answer.labels.heard, answer.labels.repeated, answer.labels.withdrawn) == (223, 1, 1)


async def test_only_uniform_labels_can_be_asked_for(reader: Reader) -> None:
    (found,) = (await reader.quality(pb.GetQualityRequest(model="m", uniform_only=True))).segments
    assert found.labels == found.risk.labels == 199


async def test_an_interval_of_labels_that_never_changed_may_be_looked_at_any_time() -> None:
    reader = await heard([label(n, "bag") for n in range(20)])
    (found,) = (await reader.quality(pb.GetQualityRequest(model="m"))).segments
    assert found.risk.anytime_valid


async def test_labels_that_have_left_the_horizon_are_told_and_end_the_guarantee() -> None:
    rules = replace(policy(), quality=QualityPolicy(horizon_hours=1.0))
    reader = await heard([label(n, "bag") for n in range(150)], [label(3, "bag")], rules=rules)
    answer = await reader.quality(pb.GetQualityRequest(model="m"))
    (found,) = answer.segments
    assert (found.labels, found.risk.anytime_valid) == (101, False)
    assert (answer.labels.kept, answer.labels.expired + answer.labels.too_late) == (101, 50)
    assert wire.seconds(answer.labels.since) == EPOCH + 0.49 * HOUR


async def test_quality_is_told_by_camera_and_by_hour_the_newest_first(reader: Reader) -> None:
    cameras = (await reader.quality(pb.GetQualityRequest(model="m", by="camera"))).segments
    assert [(one.camera_id, one.labels) for one in cameras] == [("camera-0", 110), ("camera-1", 109)]
    hours = (await reader.quality(pb.GetQualityRequest(model="m", by="hour"))).segments
    assert sum(one.labels for one in hours) == 219
    times = [wire_quality.micros(one.hour) for one in hours]
    assert times == sorted(times, reverse=True)
    assert all(at % 3_600_000_000 == 0 for at in times)
    until = pb.GetQualityRequest(model="m", by="hour", until=hours[0].hour, limit=1)
    earlier = await reader.quality(until)
    assert [one.hour for one in earlier.segments] == [hours[1].hour]
    assert earlier.left_out == len(hours) - 2


async def test_risk_is_provisional_until_95_percent_of_the_draw_is_answered() -> None:
    """Every frame is drawn (propensity 1): of a hundred predictions 94, then 95 are answered."""
    predictions = [prediction(n) for n in range(100)]
    told = []
    for count in (94, 95):
        reader = await heard([*predictions, *(label(n, "bag", propensity=1.0) for n in range(count))])
        (one,) = (await reader.quality(pb.GetQualityRequest(model="m"))).segments
        told.append((one.risk.answered, one.risk.provisional))
    assert told == [(0.94, True), (0.95, False)]


async def test_versions_are_told_apart() -> None:
    reader = await heard([label(n, "bag", version=str(1 + n % 2)) for n in range(9)])
    found = (await reader.quality(pb.GetQualityRequest(model="m"))).segments
    assert [(one.version, one.labels) for one in found] == [("1", 5), ("2", 4)]
    (second,) = (await reader.quality(pb.GetQualityRequest(model="m", version="2"))).segments
    assert second == found[1]


async def test_what_has_a_place_in_the_image_is_not_compared_with_a_class_for_the_whole() -> None:
    placed = label(1, "bag")
    placed.value.annotation.labels[0].box.width = 3.0
    reader = await heard([placed, label(2, "bag")])
    (found,) = (await reader.quality(pb.GetQualityRequest(model="m"))).segments
    assert found.labels == 1


async def test_http_answers_the_same_and_refuses_what_it_does_not_know(reader: Reader) -> None:
    app = create_http("monitor")
    app.include_router(routes(reader))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor") as client:
        answer = (await client.get("/api/v1/quality", params={"model": "m", "by": "camera"})).json()
        assert [one["camera_id"] for one in answer["segments"]] == ["camera-0", "camera-1"]
        assert answer["segments"][0]["risk"]["anytime_valid"] is False
        assert (await client.get("/api/v1/quality", params={"model": "nobody"})).status_code == 404
        assert (await client.get("/api/v1/quality", params={"model": "m", "by": "mood"})).status_code == 400
    with pytest.raises(UnknownModel):
        await reader.quality(pb.GetQualityRequest(model="nobody"))
    with pytest.raises(InvalidMessage):
        await reader.quality(pb.GetQualityRequest(model="m", limit=1001))
