"""Everything that is worth a query later, into tables: predictions, labels, drifts, rejections, decisions, alerts, and
what people commanded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from irisloop.serving.v1 import serving_pb2
from irisloop.topics import (
    ALERT_RAISED,
    ANNOTATION_CONFIRMED,
    COMMAND_GIVEN,
    DRIFT_DETECTED,
    FRAME_REJECTED,
    PREDICTION_MADE,
    RETRAIN_ANSWERED,
    RETRAIN_DECLINED,
    RETRAIN_REQUESTED,
)

from services.common.bus import Bus, Delivery, Subscription, Topic
from services.common.bus.cloudevents import decode_briefly
from services.monitor.domain.channels import FEATURES
from services.monitor.domain.rows import DAY, Messages, Rows, Warehouse
from services.monitor.domain.tables import (
    ALERTS,
    ANNOTATIONS,
    COMMANDS,
    DECISIONS,
    DRIFTS,
    PREDICTIONS,
    REJECTIONS,
    Table,
)
from services.monitor.errors import GAP_ADVICE
from services.monitor.inbound import rows

_BATCH: Final = 2000
_PREDICTIONS: Final = 10_000
_LINGER_MS: Final = 1000  # ClickHouse wants few inserts of many rows.

Row = Callable[[Any, datetime], tuple[Any, ...]]


def subscribe(bus: Bus, warehouse: Warehouse) -> None:
    """Declare what analytics hear: a batch of a partition is of one insert, trimmed by what is there already."""
    for topic, handler, table, row in stored():
        if topic is PREDICTION_MADE and warehouse.takes_messages:
            _subscribe_predictions(bus, warehouse, handler)
            continue
        store = _storer(warehouse, table, row)
        bus.subscribe(
            Subscription(topic, handler, store, max_batch=_BATCH, linger_ms=_LINGER_MS, gap_advice=GAP_ADVICE)
        )


def stored() -> tuple[tuple[Topic[Any], str, Table, Row], ...]:
    """Which topic goes into which table: (topic, handler, table, a message and its time as the columns' values)."""
    return (
        (PREDICTION_MADE, "store-predictions", PREDICTIONS, rows.prediction),
        (ANNOTATION_CONFIRMED, "store-annotations", ANNOTATIONS, rows.annotation),
        (DRIFT_DETECTED, "store-drifts", DRIFTS, rows.drift),
        (RETRAIN_REQUESTED, "store-requests", DECISIONS, rows.request),
        (RETRAIN_DECLINED, "store-refusals", DECISIONS, rows.refusal),
        (FRAME_REJECTED, "store-rejections", REJECTIONS, rows.rejection),
        (ALERT_RAISED, "store-alerts", ALERTS, rows.alert),
        (COMMAND_GIVEN, "store-commands", COMMANDS, rows.command),
        (RETRAIN_ANSWERED, "store-answers", COMMANDS, rows.answer),
    )


def _storer(warehouse: Warehouse, table: Table, row: Row) -> Callable[..., Any]:
    async def store(batch: Sequence[Delivery[Any]]) -> None:
        first = batch[0].record
        offsets = [d.record.offset for d in batch]
        columns = list(zip(*(row(d.value, d.ce_time) for d in batch), strict=True))
        await warehouse.insert(Rows(table, first.topic, first.partition, offsets, columns))

    return store


def _subscribe_predictions(bus: Bus, warehouse: Warehouse, handler: str) -> None:
    """Predictions are checked here and taken apart by ClickHouse: there are too many of them to be made Python's."""

    async def store(batch: Sequence[Delivery[serving_pb2.PredictionMade]]) -> None:
        first = batch[0].record
        offsets, values, days = [], [], []
        for delivery in batch:
            record = delivery.record
            offsets.append(record.offset)
            values.append(record.value)
            days.append(rows.micros(delivery.value.prediction.captured_at) // DAY)
        await warehouse.insert(Messages(PREDICTIONS, first.topic, first.partition, offsets, values, days))

    bus.subscribe(
        Subscription(
            PREDICTION_MADE,
            handler,
            store,
            decode=lambda record: decode_briefly(record, PREDICTION_MADE),
            max_batch=_PREDICTIONS,
            linger_ms=_LINGER_MS,
            gap_advice=GAP_ADVICE,
        )
    )


assert len(FEATURES) + 14 == len(PREDICTIONS.columns)
