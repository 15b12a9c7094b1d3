"""Blind probes, and the assets that were drawn for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from services.labeling.domain.model import State
from services.labeling.domain.probe import Probe, ProbeEnd, Reading, Tally
from services.labeling.outbound import tables
from services.labeling.outbound.tables import insert_new, insert_or_replace


@dataclass(frozen=True, slots=True)
class SqlProbes:
    """`Probes` inside one open transaction."""

    connection: Connection

    def get(self, probe_id: str) -> Probe | None:
        row = self.connection.execute(sa.select(tables.probes).where(tables.probes.c.id == probe_id)).first()
        return _probe(row) if row is not None else None

    def open(self) -> list[Probe]:
        table = tables.probes
        query = sa.select(table).where(table.c.ended.is_(None)).order_by(table.c.requested_at, table.c.id)
        return [_probe(row) for row in self.connection.execute(query)]

    def put(self, probe: Probe) -> None:
        lists = {name: json.dumps(getattr(probe, name)) for name in ("class_names", "cameras", "annotators")}
        values = {**asdict(probe), **lists, "ended": int(probe.ended) if probe.ended is not None else None}
        self.connection.execute(insert_or_replace(self.connection, tables.probes, values))

    def add(self, readings: Sequence[Reading]) -> None:
        if readings:
            self.connection.execute(insert_new(self.connection, tables.readings), [asdict(one) for one in readings])

    def readings(self, task_ids: Iterable[str]) -> dict[str, Reading]:
        table = tables.readings
        query = sa.select(table).where(table.c.task_id.in_(list(task_ids)))
        return {row.task_id: Reading(**row._mapping) for row in self.connection.execute(query)}

    def answer(self, reading: Reading) -> None:
        self.connection.execute(insert_or_replace(self.connection, tables.readings, asdict(reading)))

    def tally(self, probe_id: str) -> Tally:
        readings, tasks, assets = tables.readings, tables.tasks, tables.assets
        of_probe = sa.select(sa.func.count()).select_from(readings).where(readings.c.probe_id == probe_id)
        skipped = (
            sa.select(sa.func.count())
            .select_from(tasks)
            .where(tasks.c.cause == probe_id, tasks.c.state == State.SKIPPED)
        )
        deleted = of_probe.join(assets, assets.c.id == readings.c.asset_id).where(assets.c.deleted.is_(True))
        counts = (of_probe.where(readings.c.revision > 0), skipped, deleted)
        return Tally(*(int(self.connection.execute(count).scalar_one()) for count in counts))


def _probe(row: Row[Any]) -> Probe:
    values = dict(row._mapping)
    for name in ("class_names", "cameras", "annotators"):
        values[name] = tuple(json.loads(values[name]))
    values["ended"] = ProbeEnd(values["ended"]) if values["ended"] is not None else None
    return Probe(**values)
