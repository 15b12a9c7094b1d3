"""Opens transactions: what is written in one, and the events that it causes, commit together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.topics import ANNOTATION_CONFIRMED, DATASET_VERSION_CREATED, PROBE_ANSWERED, PROBE_ENDED
from sqlalchemy import Connection

from services.common.bus import Event, derive_id
from services.common.database import Database
from services.common.outbox import enqueue
from services.labeling import codec
from services.labeling.domain.model import Annotation, Draw, Micros, Reference, Version
from services.labeling.domain.ports import Ledger
from services.labeling.domain.probe import Probe, Reading, Tally
from services.labeling.outbound.annotations import SqlAnnotations
from services.labeling.outbound.datasets import SqlDatasets
from services.labeling.outbound.pool import SqlPool
from services.labeling.outbound.probes import SqlProbes
from services.labeling.outbound.tasks import SqlTasks

T = TypeVar("T")


class SqlLedgers:
    """Opens ledgers on a database."""

    def __init__(self, database: Database) -> None:
        """The database is opened and closed by whoever made it."""
        self._database = database

    async def transact(self, work: Callable[[Ledger], T]) -> T:
        """One write transaction."""
        return await self._database.transact(lambda connection: work(SqlLedger.over(connection)))

    async def read(self, work: Callable[[Ledger], T]) -> T:
        """One consistent read."""
        return await self._database.read(lambda connection: work(SqlLedger.over(connection)))


@dataclass(frozen=True, slots=True)
class SqlLedger:
    """`Ledger` inside one open transaction."""

    connection: Connection
    pool: SqlPool
    annotations: SqlAnnotations
    tasks: SqlTasks
    datasets: SqlDatasets
    probes: SqlProbes

    @classmethod
    def over(cls, connection: Connection) -> SqlLedger:
        """All parts on one connection."""
        return cls(
            connection,
            SqlPool(connection),
            SqlAnnotations(connection),
            SqlTasks(connection),
            SqlDatasets(connection),
            SqlProbes(connection),
        )

    def say_confirmed(self, said: Sequence[tuple[Annotation, Draw | None, Sequence[Reference]]]) -> None:
        events: list[Event[Any]] = []
        for annotation, draw, references in said:
            value = pb.AnnotationConfirmed(
                annotation=codec.annotation_message(annotation),
                draw=codec.draw_message(draw) if draw is not None else None,
                predictions=[codec.reference_message(reference) for reference in references],
            )
            at = codec.moment(annotation.annotated_at)
            events.append(Event(ANNOTATION_CONFIRMED, annotation.asset.camera_id, value, annotation.id, at))
        enqueue(self.connection, events)

    def say_created(self, version: Version) -> None:
        value = pb.DatasetVersionCreated(version=codec.version_message(version))
        identity = derive_id("dataset-version", version.dataset, str(version.number), version.digest)
        at = codec.moment(version.created_at)
        enqueue(self.connection, [Event(DATASET_VERSION_CREATED, version.dataset, value, identity, at)])

    def say_again(self, probe: Probe, readings: Sequence[Reading]) -> None:
        events: list[Event[Any]] = []
        for one in readings:
            identity = derive_id("probe-answer", one.task_id, str(one.revision))
            at = codec.moment(one.annotated_now_at)
            events.append(Event(PROBE_ANSWERED, probe.model, codec.again_message(probe, one), identity, at))
        enqueue(self.connection, events)

    def say_ended(self, probe: Probe, tally: Tally, at: Micros) -> None:
        value = codec.ended_message(probe, tally, at)
        identity = derive_id("probe-end", probe.id)
        enqueue(self.connection, [Event(PROBE_ENDED, probe.model, value, identity, codec.moment(at))])
