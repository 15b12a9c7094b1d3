"""Records and deliveries, made quickly: they are made for every message, and are frozen.

A frozen dataclass sets each field through `object.__setattr__`, which takes three times as long as everything else
about a record. So a draft with the same slots is filled plainly and then given its real class; Python allows that
between classes of one layout. The result is equal in every way to what the class's own constructor makes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from services.common.bus.api import Delivery, Record

M = TypeVar("M", bound=Message)


class _RecordDraft:
    __slots__ = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")  # noqa: RUF023 - Record's order


class _DeliveryDraft(Generic[M]):
    __slots__ = ("record", "key", "value", "ce_id", "ce_time", "ce_source", "traceparent")  # noqa: RUF023 - Delivery's


def make_record(
    topic: str,
    partition: int,
    offset: int,
    timestamp: datetime,
    key: bytes | None,
    value: bytes,
    headers: tuple[tuple[str, bytes], ...],
) -> Record:
    """A `Record`."""
    draft: Any = _RecordDraft()
    draft.topic = topic
    draft.partition = partition
    draft.offset = offset
    draft.timestamp = timestamp
    draft.key = key
    draft.value = value
    draft.headers = headers
    draft.__class__ = Record
    return cast("Record", draft)


def make_delivery(
    record: Record, key: str, value: Any, ce_id: str, ce_time: datetime, ce_source: str, traceparent: str
) -> Delivery[Any]:
    """A `Delivery`."""
    draft: Any = _DeliveryDraft()
    draft.record = record
    draft.key = key
    draft.value = value
    draft.ce_id = ce_id
    draft.ce_time = ce_time
    draft.ce_source = ce_source
    draft.traceparent = traceparent
    draft.__class__ = Delivery
    return cast("Delivery[Any]", draft)
