"""Processes that write and publish are killed in the middle of it: nothing is lost, nothing is invented."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from irisloop.ingest.v1 import ingest_pb2
from irisloop.topics import CAMERA_CHANGED

from services.common.bus.api import Bus, Event
from services.common.database import Database, sqlite_url
from services.common.outbox import OutboxRelay, enqueue, outbox_tables
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
ROUNDS = 3
METADATA = sa.MetaData()
FACTS = sa.Table("facts", METADATA, sa.Column("id", sa.Integer, primary_key=True), sqlite_autoincrement=True)
outbox_tables(METADATA)


class FileOutlet:
    """A broker of one file: what is appended is acknowledged."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        await asyncio.sleep(0.001)
        os.write(self._descriptor, "".join(f"{event.ce_id}\n" for event in events).encode())


def add_fact(connection: sa.Connection) -> None:
    number = connection.execute(sa.insert(FACTS).returning(FACTS.c.id)).scalar_one()
    message = ingest_pb2.CameraChanged(camera=ingest_pb2.Camera(id="gate"))
    enqueue(connection, [Event(CAMERA_CHANGED, "gate", message, str(number), datetime.now(UTC))])


def waits(connection: sa.Connection) -> bool:
    return connection.execute(sa.text("SELECT 1 FROM outbox LIMIT 1")).first() is not None


async def work(home: Path, writing: bool) -> None:
    """Write facts, or only publish what is left and stop."""
    async with Database(sqlite_url(home, "crash"), METADATA) as database, asyncio.TaskGroup() as group:
        relay = group.create_task(OutboxRelay(database, cast(Bus, FileOutlet(home / "published"))).run())
        while writing:
            await database.transact(add_fact)
        while await database.read(waits):
            await asyncio.sleep(0.02)
        relay.cancel()


def start(home: Path, *, writing: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.integration.test_outbox_crash", str(home), str(int(writing))]
    return subprocess.Popen(command, cwd=REPOSITORY)


def facts(home: Path) -> list[str]:
    connection = sqlite3.connect(home / "db" / "crash.sqlite")
    try:
        return [str(row[0]) for row in connection.execute("SELECT id FROM facts ORDER BY id")]
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def wait_for_growth(home: Path) -> None:
    (home / "db").mkdir(exist_ok=True)
    before = len(facts(home))
    wait_until(lambda: len(facts(home)) >= before + 20, what="a fact")


@pytest.mark.timeout(600)
def test_two_replicas_killed_again_and_again_lose_nothing_and_invent_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)
    for _ in range(ROUNDS):
        replicas = [start(tmp_path, writing=True) for _ in range(2)]
        try:
            wait_for_growth(tmp_path)
            time.sleep(dice.uniform(0.0, 0.3))
        finally:
            for replica in replicas:
                replica.kill()
                replica.wait(60)
    last = start(tmp_path, writing=False)
    assert last.wait(200) == 0
    published = (tmp_path / "published").read_text().splitlines()
    once = list(dict.fromkeys(published))
    assert once == facts(tmp_path)
    assert len(published) - len(once) <= ROUNDS * 1_000, "a kill repeats one batch at most"


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2] == "1"))
