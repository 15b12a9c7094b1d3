"""Trainer's runs on SQLAlchemy: a run's new state and the event that tells of it commit together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from irisloop.topics import EVALUATION_FINISHED, RUN_FINISHED, RUN_PROGRESSED, RUN_WAITING
from irisloop.trainer.v1 import trainer_pb2
from sqlalchemy import Connection, Row, insert, select, update

from services.common.bus import Event, Topic, derive_id
from services.common.database import Database
from services.common.errors import InvalidMessage
from services.common.metrics import TRAINER_RUNS
from services.common.outbox import enqueue
from services.trainer import wire
from services.trainer.domain.ports import Book, EpochDone
from services.trainer.domain.runs import Run, RunState
from services.trainer.errors import UnknownRun
from services.trainer.outbound.tables import runs

T = TypeVar("T")

TIMES: Final = ("created_at", "labels_since", "expires_at", "started_at", "finished_at")


class SqlBooks:
    """Opens books on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def transact(self, work: Callable[[Book], T]) -> T:
        """One write transaction; the runs that ended in it are counted once it is committed."""

        def run(connection: Connection) -> tuple[T, list[Run]]:
            book = SqlBook(connection)
            return work(book), book.ended

        result, ended = await self._database.transact(run)
        for one in ended:
            TRAINER_RUNS.labels(one.state.value).inc()
        return result

    async def read(self, work: Callable[[Book], T]) -> T:
        """One consistent read."""
        return await self._database.read(lambda connection: work(SqlBook(connection)))


class SqlBook:
    """`Book` inside one open transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.ended: list[Run] = []

    def run(self, run_id: str) -> Run:
        row = self._connection.execute(select(runs).where(runs.c.id == run_id)).first()
        if row is None:
            raise UnknownRun(f"no run {run_id}", field="run_id")
        return _run(row)

    def run_of_request(self, request_id: str) -> Run | None:
        row = self._connection.execute(select(runs).where(runs.c.request_id == request_id)).first()
        return _run(row) if row is not None else None

    def runs(
        self,
        *,
        model: str = "",
        dataset: str = "",
        state: RunState | None = None,
        since: datetime | None = None,
        limit: int = 100,
        before: str = "",
    ) -> Sequence[Run]:
        query = select(runs).order_by(runs.c.sequence.desc()).limit(limit)
        if model:
            query = query.where(runs.c.model == model)
        if dataset:
            query = query.where(runs.c.dataset == dataset)
        if state is not None:
            query = query.where(runs.c.state == state.value)
        if since is not None:
            query = query.where(runs.c.created_at >= _naive(since))
        if before:
            last = self._connection.execute(select(runs.c.sequence).where(runs.c.id == before)).scalar()
            if last is None:
                raise InvalidMessage("`cursor` is not one that this list gave out", field="cursor")
            query = query.where(runs.c.sequence < last)
        return [_run(row) for row in self._connection.execute(query)]

    def save(self, run: Run) -> Run:
        row = _row(run)
        changed = self._connection.execute(update(runs).where(runs.c.id == run.id).values(**row))
        if not changed.rowcount:
            self._connection.execute(insert(runs).values(**row))
        return run

    def say_waiting(self, run: Run, at: datetime) -> None:
        value = trainer_pb2.RunWaiting(run=wire.run_message(run))
        self._say(RUN_WAITING, run, value, at, derive_id("run-waiting", run.id, run.waiting_for))

    def say_progressed(self, run: Run, done: EpochDone, at: datetime) -> None:
        value = trainer_pb2.RunProgressed(
            run_id=run.id,
            model=run.model,
            epoch=done.epoch,
            epochs=done.epochs,
            train_loss=done.train_loss,
            validation_accuracy=done.validation_accuracy,
            epoch_seconds=done.seconds,
        )
        self._say(RUN_PROGRESSED, run, value, at, derive_id("run-progressed", run.id, str(done.epoch)))

    def say_finished(self, run: Run, at: datetime) -> None:
        self.ended.append(run)
        value = trainer_pb2.RunFinished(run=wire.run_message(run))
        self._say(RUN_FINISHED, run, value, at, derive_id("run-finished", run.id))

    def say_evaluated(self, model: str, version: str, report: bytes, at: datetime) -> None:
        parsed = trainer_pb2.EvaluationReport.FromString(report)
        value = trainer_pb2.EvaluationFinished(model=model, version=version, report=parsed)
        enqueue(self._connection, [Event(EVALUATION_FINISHED, model, value, derive_id("evaluated", parsed.id), at)])

    def _say(self, topic: Topic[Any], run: Run, value: Message, at: datetime, ce_id: str) -> None:
        enqueue(self._connection, [Event(topic, run.model, value, ce_id, at, run.traceparent)])


def _row(run: Run) -> dict[str, Any]:
    row = {field.name: getattr(run, field.name) for field in fields(run)}
    for name in TIMES:
        row[name] = _naive(row[name]) if row[name] is not None else None
    return {
        **row,
        "state": run.state.value,
        "class_names": json.dumps(run.class_names),
        "cameras": json.dumps(run.cameras),
    }


def _run(row: Row[Any]) -> Run:
    values = {field.name: getattr(row, field.name) for field in fields(Run)}
    for name in TIMES:
        values[name] = values[name].replace(tzinfo=UTC) if values[name] is not None else None
    values["state"] = RunState(values["state"])
    values["class_names"] = tuple(json.loads(values["class_names"]))
    values["cameras"] = tuple(json.loads(values["cameras"]))
    return Run(**values)


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
