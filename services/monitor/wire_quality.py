"""Between the contracts' messages and the metrics' own words: labels as truths, measures as messages."""

from __future__ import annotations

from datetime import datetime
from sys import intern
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor.domain.quality.book import HOUR, Cell, TruthBook
from services.monitor.domain.quality.boxes import MOST, MOST_FOUND, Boxes, Row
from services.monitor.domain.quality.detection import BoxMeasure, BoxMeasures
from services.monitor.domain.quality.labelfree import Estimate
from services.monitor.domain.quality.measures import ClassMeasure, Measures, RiskMeasure, share
from services.monitor.domain.quality.truth import UNKNOWN, Said, Truth

_SECOND: Final = 1_000_000
WHOLE: Final = 0.95
"""Of a draw so much is answered before its numbers are no longer provisional."""
_TRIANGLE: Final = 6  # Numbers of the smallest ring.
BACKGROUND: Final = "background"
"""The class of a whole image on which there is nothing to draw a box around."""


def micros(stamp: Timestamp) -> int:
    """Microseconds since 1970; finer digits are cut off."""
    return stamp.seconds * _SECOND + stamp.nanos // 1000


def stamp(at: int) -> Timestamp:
    """The inverse of `micros`."""
    return Timestamp(seconds=at // _SECOND, nanos=at % _SECOND * 1000)


def truth_of(value: Any, said_at: datetime) -> Truth | None:
    """A revision of a label, said at that time if it does not tell; None of anything else, or without an asset."""
    if not isinstance(value, labeling_pb2.AnnotationConfirmed) or not value.annotation.asset_id:
        return None
    a, draw = value.annotation, value.draw
    uniform = draw.origin == labeling_pb2.TASK_ORIGIN_UNIFORM and 0.0 < draw.propensity <= 1.0
    return Truth(
        asset_id=a.asset_id,
        camera_id=a.camera_id,
        captured_at=micros(a.captured_at),
        given_at=micros(a.annotated_at) or int(said_at.timestamp() * _SECOND),
        revision=a.revision,
        class_name=class_of(a),
        propensity=draw.propensity if uniform else 0.0,
        said={p.prediction_id or f"{p.model}/{p.role}": _said(p) for p in value.predictions},
        boxes=boxes_of(a),
    )


def _said(p: labeling_pb2.PredictionReference) -> Said:
    if not p.HasField("decision_threshold"):
        return Said.of(p.model, p.version, p.role, p.class_name, p.score)
    return Said.of(p.model, p.version, p.role, "", 0.0, found_of(p), p.decision_threshold)


def found_of(p: labeling_pb2.PredictionReference) -> Boxes:
    """What a detector found, best first."""
    return Boxes.of((d.class_name, d.score, d.x, d.y, d.width, d.height) for d in p.detections[:MOST_FOUND])


def boxes_of(a: labeling_pb2.Annotation) -> Boxes | None:
    """What people drew: boxes, and of a polygon the box around it. Of a label for the whole image alone, nothing is
    drawn where it is the background, and else nothing is known; nor of one that was withdrawn or draws too much.
    """
    rows = [row for label in a.labels if (row := _row(label)) is not None]
    looked = bool(rows) or (bool(a.labels) and all(label.class_name == BACKGROUND for label in a.labels))
    return Boxes.of(rows) if looked and len(rows) <= MOST and not a.withdrawn else None


def _row(label: labeling_pb2.Label) -> Row | None:
    kind = label.WhichOneof("geometry")
    if kind == "box":
        return label.class_name, 1.0, label.box.x, label.box.y, label.box.width, label.box.height
    if kind is None or len(label.polygon.points) < _TRIANGLE:
        return None
    xs, ys = label.polygon.points[::2], label.polygon.points[1::2]
    return label.class_name, 1.0, min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def class_of(a: labeling_pb2.Annotation) -> str:
    """The class of the whole image; unknown where it was withdrawn, or labels differ or have a place in the image:
    a classifier names no place, so there is nothing to compare it with.
    """
    names = {intern(label.class_name) for label in a.labels}
    placed = any(label.WhichOneof("geometry") for label in a.labels)
    return UNKNOWN if a.withdrawn or placed or len(names) != 1 else names.pop()


def quality_message(
    cell: Cell, m: Measures, risk: pb.RiskEstimate, e: Estimate, boxes: BoxMeasures | None = None
) -> pb.Quality:
    """One segment."""
    return pb.Quality(
        model=cell.model,
        version=cell.version,
        role=cell.role,
        camera_id=cell.camera_id,
        hour=stamp(cell.hour * HOUR) if cell.hour >= 0 else None,
        labels=m.labels,
        right=m.right,
        accuracy=m.accuracy,
        macro_f1=m.macro_f1,
        calibration_error=m.calibration_error,
        classes=[_class_message(one) for one in m.classes],
        confusion=[pb.ConfusionCount(truth=t, predicted=p, count=n) for t, p, n in m.confusion],
        calibration=[
            pb.CalibrationBin(
                low=b.low, high=b.high, predictions=b.predictions, confidence=b.confidence, accuracy=b.accuracy
            )
            for b in m.bins
        ],
        risk=risk,
        boxes=None if boxes is None else _boxes_message(boxes),
        predictions=e.predictions,
        label_free=pb.LabelFreeEstimate(
            confidence=e.confidence,
            accuracy=None if e.unknown else e.accuracy,
            low=None if e.unknown else e.low,
            high=None if e.unknown else e.high,
            cells=e.cells,
            unknown=e.unknown,
        ),
    )


def _class_message(one: ClassMeasure) -> pb.ClassQuality:
    return pb.ClassQuality(
        class_name=one.class_name,
        labels=one.labels,
        predictions=one.predictions,
        right=one.right,
        precision=share(one.right, one.predictions) if one.predictions else None,
        recall=share(one.right, one.labels) if one.labels else None,
        f1=one.f1,
    )


def _boxes_message(m: BoxMeasures) -> pb.BoxQuality:
    one = m.whole
    classes = [
        pb.BoxClassQuality(class_name=c.class_name, ap=c.ap, ap50=c.ap50, ap75=c.ap75, **_matched(c)) for c in m.classes
    ]
    return pb.BoxQuality(
        frames=m.frames, loss=m.loss, map=one.ap, map50=one.ap50, map75=one.ap75, classes=classes, **_matched(one)
    )


def _matched(one: BoxMeasure) -> dict[str, Any]:
    """What a class and all of them together have in common."""
    return {
        "labels": one.labels,
        "predictions": one.predictions,
        "right": one.right,
        "precision": share(one.right, one.predictions) if one.predictions else None,
        "recall": share(one.right, one.labels) if one.labels else None,
        "f1": share(2 * one.right, one.labels + one.predictions),
        "mae": one.mae,
        "rmse": one.rmse,
    }


def risk_message(r: RiskMeasure, confidence: float, whole: bool, answered: tuple[float, float]) -> pb.RiskEstimate:
    """`whole`: none of the version's labels has left the horizon or come too late; `answered` with its error."""
    return pb.RiskEstimate(
        labels=r.labels,
        raw_error=r.raw,
        weighted_error=r.weighted,
        low=r.low,
        high=r.high,
        confidence=confidence,
        anytime_valid=whole and not r.corrected,
        corrected=r.corrected,
        clipped=r.clipped,
        answered=answered[0],
        answered_error=answered[1],
        provisional=answered[0] < WHOLE,
    )


def account_message(book: TruthBook) -> pb.LabelAccount:
    """What became of every label."""
    a = book.account
    return pb.LabelAccount(
        heard=a.heard,
        repeated=a.repeated,
        kept=book.size,
        withdrawn=book.withdrawn,
        corrected=book.corrected,
        unjoined=a.unjoined,
        ahead=a.ahead,
        too_late=a.too_late,
        expired=a.expired,
        since=stamp(book.since()),
    )
