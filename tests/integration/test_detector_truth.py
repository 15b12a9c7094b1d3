"""A real detector from its ONNX graph to the monitor's figures: serving decodes and tells, labeling names what was
predicted, people draw boxes, the monitor measures; all of it over the services' own messages.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from math import sqrt
from pathlib import Path
from typing import Any

import httpx
import pytest
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ANNOTATION_CONFIRMED, PREDICTION_MADE

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.common.http import create_http
from services.labeling import codec
from services.labeling.inbound.kafka import prediction as prediction_of
from services.local.cli.monitor_quality import doubts
from services.monitor.handlers import Judge
from services.monitor.inbound.http import routes
from services.monitor.inbound.stream import DriftStream
from services.monitor.outbound.clickhouse import NoAnalytics
from services.monitor.queries import Reader
from services.serving.domain.bindings import Binding
from tests.unit.monitor.worlds import policy
from tests.unit.serving import detectors, tiny
from tests.unit.serving.house import asset, serving
from tests.unit.serving.test_stream import bind, predicted
from tests.waiting import until

Place = tuple[int, int, int, int]
FRAMES = 40
NOWHERE: Place = (0, 0, 0, 0)


def places(rng: random.Random) -> list[Place]:
    """Where the lamp is in the stored images, on pixels of the model's input; every eighth shows none."""
    found = [
        (2 * rng.randrange(20), 2 * rng.randrange(8), 2 * rng.randrange(4, 20), 2 * rng.randrange(3, 12))
        for _ in range(FRAMES)
    ]
    return [NOWHERE if n % 8 == 7 else place for n, place in enumerate(found)]


async def predictions(home: Path, shown: Sequence[Place]) -> list[serving_pb2.Prediction]:
    """What serving says of the images."""
    await bind(home, Binding("clothes", "champion", ("*",)))
    async with serving(home) as house:
        package = await tiny.store(house.objects, house.home, detectors.package_files())
        await house.publish(tiny.aliases(1, champion=("1", package)))
        await until(lambda: 1 in house.revisions())
        for number, place in enumerate(shown):
            picture = detectors.picture(*place, level=0 if place == NOWHERE else 200)
            stored = asset(number, await house.objects.put(picture))
            stored.value.asset.width, stored.value.asset.height = 80, 40
            await house.publish(stored)
        return sorted(await predicted(house, len(shown)), key=lambda one: one.captured_at.ToNanoseconds())


def drawn(place: Place) -> list[labeling_pb2.Label]:
    """What a person says of an image."""
    if place == NOWHERE:
        return [labeling_pb2.Label(class_name="background")]
    x, y, width, height = place
    return [labeling_pb2.Label(class_name="lamp", box=labeling_pb2.Box(x=x, y=y, width=width, height=height))]


def label(made: serving_pb2.Prediction, place: Place, revision: int = 1) -> Event[Any]:
    """The record that labeling writes, naming the prediction as it keeps it."""
    kept = prediction_of(made)
    assert kept is not None
    annotation = labeling_pb2.Annotation(
        asset_id=made.asset_id,
        camera_id=made.camera_id,
        captured_at=made.captured_at,
        annotated_at=made.captured_at,
        revision=revision,
        labels=drawn(place),
    )
    origin = labeling_pb2.TASK_ORIGIN_UNIFORM if revision == 1 else labeling_pb2.TASK_ORIGIN_UNSPECIFIED
    value = labeling_pb2.AnnotationConfirmed(
        annotation=annotation,
        draw=labeling_pb2.Draw(origin=origin, propensity=1.0 if revision == 1 else 0.0),
        predictions=[codec.reference_message(kept.reference)],
    )
    identity = f"{made.asset_id}/{revision}"
    return Event(ANNOTATION_CONFIRMED, made.camera_id, value, identity, codec.moment(codec.micros(made.captured_at)))


def _event(made: serving_pb2.Prediction) -> Event[Any]:
    at = codec.moment(codec.micros(made.captured_at))
    return Event(PREDICTION_MADE, made.camera_id, serving_pb2.PredictionMade(prediction=made), made.id, at)


async def test_what_a_real_detector_found_is_measured_against_what_people_drew(tmp_path: Path) -> None:
    rng = random.Random(4)
    shown = places(rng)
    made = await predictions(tmp_path, shown)
    # People draw a little beside, and the lamp of every tenth image somewhere else altogether.
    shifts = [(rng.randrange(0, 3), rng.randrange(0, 3)) for _ in shown]
    truth = [
        NOWHERE if place == NOWHERE else (40, 20, 8, 8) if n % 10 == 9 else (place[0] + dx, place[1] + dy, *place[2:])
        for n, (place, (dx, dy)) in enumerate(zip(shown, shifts, strict=True))
    ]
    broker, judge = MemoryBroker(), Judge(policy())
    bus = MemoryBus(broker, service="monitor")
    bus.stream(DriftStream(judge, pace=0.0).stream())
    events = [label(one, place) for one, place in zip(made, truth, strict=True)]
    events += [label(made[0], truth[0], 2)]  # Said again: nothing new.
    rng.shuffle(events)
    told = [_event(one) for one in made]
    await bus.publish([*told, *events])
    await bus.settle()
    await bus.settle()
    reader = Reader(judge, NoAnalytics())
    answer = await reader.quality(pb.GetQualityRequest(model="clothes"))
    assert bus.dead_letters(ANNOTATION_CONFIRMED) == []
    (one,) = answer.segments
    pairs = [(s, t) for s, t in zip(shown, truth, strict=True) if s != NOWHERE]
    right = [(s, t) for s, t in pairs if _iou(s, t) >= 0.5]
    boxes = one.boxes
    assert (boxes.frames, boxes.labels, boxes.predictions, boxes.right) == (40, len(pairs), len(pairs), len(right))
    assert 0 < boxes.right < boxes.predictions
    assert (boxes.precision, boxes.recall) == (len(right) / len(pairs), len(right) / len(pairs))
    assert boxes.loss == pytest.approx((len(pairs) - len(right)) / 40, abs=1e-12)
    apart = [abs(a - b) for s, t in right for a, b in zip(_edges(s), _edges(t), strict=True)]
    assert boxes.mae == float(Fraction(sum(apart), len(apart)))
    assert boxes.rmse == sqrt(sum(a * a for a in apart) / len(apart))
    # All score 200 / 255: one point of the curve, at precision = recall = the share that is right at the level.
    shares = [
        Fraction(sum(_iou(s, t) >= Fraction(level, 100) for s, t in pairs), len(pairs)) for level in range(50, 100, 5)
    ]
    aps = [float(share) * (int(share * 100) + 1) / 101 for share in shares]
    assert boxes.map50 == pytest.approx(aps[0], abs=1e-12)
    assert boxes.map == pytest.approx(sum(aps) / 10, abs=1e-12)
    assert one.labels == 40
    assert one.right == 40 - len(pairs) + len(right)
    assert one.risk.raw_error == pytest.approx(boxes.loss, abs=1e-12)
    assert one.risk.anytime_valid
    assert not one.risk.provisional
    assert (len(one.classes), len(one.confusion), one.label_free.unknown[:2]) == (0, 0, "0 ")
    await _corrected(bus, reader, made, shown)


async def _corrected(
    bus: MemoryBus, reader: Reader, made: Sequence[serving_pb2.Prediction], shown: Sequence[Place]
) -> None:
    """Everybody agrees with the detector at last: then it is right, and the interval is no longer anytime-valid."""
    await bus.publish([label(one, place, 3) for one, place in zip(made, shown, strict=True)])
    await bus.settle()
    await bus.settle()
    app = create_http("monitor")
    app.include_router(routes(reader))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor") as client:
        (one,) = (await client.get("/api/v1/quality", params={"model": "clothes"})).json()["segments"]
    boxes = one["boxes"]
    assert (boxes["map"], boxes["mae"], boxes["rmse"], boxes["loss"]) == (1.0, 0.0, 0.0, 0.0)
    assert not one["risk"]["anytime_valid"]
    assert "not anytime-valid" in doubts(one["risk"])


def _iou(a: Place, b: Place) -> Fraction:
    (left, top, right, bottom), (other_left, other_top, other_right, other_bottom) = _edges(a), _edges(b)
    width = min(right, other_right) - max(left, other_left)
    height = min(bottom, other_bottom) - max(top, other_top)
    both = max(width, 0) * max(height, 0)
    return Fraction(both, a[2] * a[3] + b[2] * b[3] - both)


def _edges(a: Place) -> Place:
    return a[0], a[1], a[0] + a[2], a[1] + a[3]
