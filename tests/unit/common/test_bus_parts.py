"""The bus's parts that need no broker: ids, partitions, suspects, progress, assignment, topics, backlog, noise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.partitioner import murmur2
from google.protobuf.wrappers_pb2 import StringValue
from irisloop.topics import CAMERA_PARTITIONS, FRAME_CAPTURED, TOPICS

from services.common.bus import Delivery, Outcome, Record, abreast, derive_id, partition_of
from services.common.bus.abreast import Abreast
from services.common.bus.assignors import CoPartitioned, OneOwner
from services.common.bus.backlog import Waiting, share_of
from services.common.bus.connection import NoiseFilter, close, instance_id
from services.common.bus.deadletter import dead_letter_topics, letter_of, read_letter
from services.common.bus.drafts import make_delivery, make_record
from services.common.bus.suspects import Progress, Suspects
from services.common.bus.topics import wanted_topics
from services.common.bus.work import Stopped, Worker, happens
from services.common.errors import InvalidMessage, NotFound, PoisonedDelivery, Transient
from tests.waiting import PATIENCE_S

AT = datetime(2026, 5, 1, tzinfo=UTC)


def record(offset: int, *headers: tuple[str, bytes], topic: str = "t", value: bytes = b"") -> Record:
    return Record(topic, 0, offset, AT, b"k", value, headers)


def delivery(one: Record) -> Delivery[Any]:
    return Delivery(one, "k", StringValue(), f"id-{one.offset}", AT, "/test", "")


def test_quickly_made_records_and_deliveries_are_the_real_ones() -> None:
    one = make_record("t", 1, 2, AT, b"k", b"v", (("a", b"b"),))
    assert (one, type(one), hash(one)) == (
        Record("t", 1, 2, AT, b"k", b"v", (("a", b"b"),)),
        Record,
        hash(Record("t", 1, 2, AT, b"k", b"v", (("a", b"b"),))),
    )
    two = make_delivery(one, "k", StringValue(value="x"), "id", AT, "s", "t")
    assert two == Delivery(one, "k", StringValue(value="x"), "id", AT, "s", "t")
    with pytest.raises(AttributeError):
        one.offset = 3  # type: ignore[misc]  # frozen, as it should be


def test_ids_derive_from_all_parts_and_their_order() -> None:
    assert derive_id("a", "b") == derive_id("a", "b")
    assert len({derive_id("a", "b"), derive_id("b", "a"), derive_id("ab"), derive_id("a", "b", "")}) == 4


def test_partitions_are_those_of_java_clients() -> None:
    for key in ("gate-1", "dock-7", "ä"):
        assert partition_of(key, 6) == (murmur2(key.encode()) & 0x7FFFFFFF) % 6 == partition_of(f"camera/{key}", 6)


# ---- partitions abreast ----

QUIET, BUSY = TopicPartition("t", 0), TopicPartition("t", 1)


def found(place: TopicPartition, *times: int) -> list[Any]:
    """As the client gives them: a record of 10 bytes at each time (ms), whose offset is the time."""
    return [
        SimpleNamespace(
            topic=place.topic, partition=place.partition, offset=at, timestamp=at, key=None, value=b"0123456789",
            headers=(), serialized_value_size=10,
        )
        for at in times
    ]  # fmt: skip


def taken(lines: Abreast, most: int | None = None) -> list[tuple[int, int]]:
    return [(one.partition, one.offset) for one in lines.take(most)]


def test_the_earliest_of_all_partitions_goes_first_and_each_keeps_its_order() -> None:
    lines = Abreast([QUIET, BUSY], 100)
    lines.put(QUIET, found(QUIET, 1_000, 3_000))
    lines.put(BUSY, found(BUSY, 1_500, 2_000, 1_990, 3_500))
    assert taken(lines, 3) == [(0, 1_000), (1, 1_500), (1, 2_000)]
    assert taken(lines) == [(1, 1_990), (0, 3_000), (1, 3_500)]
    assert (taken(lines), len(lines), lines.waiting()) == ([], 0, None)


def test_a_partition_with_more_on_the_broker_is_waited_for_and_not_for_ever() -> None:
    now = 0.0
    lines = Abreast([QUIET, BUSY], 100, lambda: now)
    lines.put(QUIET, found(QUIET, 1_000, 9_000))
    lines.put(BUSY, found(BUSY, 900, 1_100))
    lines.expect({BUSY})
    assert taken(lines) == [(1, 900), (0, 1_000), (1, 1_100)]  # Its next one may be of 1,100, too.
    assert (taken(lines), len(lines)) == ([], 1)
    lines.put(BUSY, found(BUSY, 1_200))
    assert taken(lines) == [(1, 1_200)]
    now = abreast.PATIENCE_S / 2
    assert taken(lines) == []
    now = abreast.PATIENCE_S
    assert taken(lines) == []  # It may be this process that stood still.
    for _ in range(abreast.LOOKS):
        lines.expect({BUSY})
    assert taken(lines) == [(0, 9_000)]
    lines.put(QUIET, found(QUIET, 9_500))
    lines.expect({BUSY})
    assert taken(lines) == [(0, 9_500)]
    lines.put(BUSY, found(BUSY, 9_600))
    lines.expect({BUSY})
    lines.put(QUIET, found(QUIET, 9_700))
    assert taken(lines) == [(1, 9_600)]


def test_a_partition_that_runs_ahead_fills_alone() -> None:
    lines = Abreast([QUIET, BUSY], 4)
    lines.put(QUIET, found(QUIET, *range(5_000, 5_006)))
    lines.put(BUSY, found(BUSY, 1, 2, 3))
    assert lines.full() == {QUIET}
    assert taken(lines) == [(1, 1), (1, 2), (1, 3), (0, 5_000)]
    lines.clear()
    assert (lines.full(), len(lines)) == (set(), 0)


# ---- a batch's way to its effect ----


class Effect:
    """A handler that fails as told and remembers."""

    def __init__(self, fail: Callable[[Sequence[Delivery[Any]]], None] = lambda batch: None) -> None:
        self.fail, self.calls, self.done = fail, 0, list[int]()

    async def __call__(self, batch: Sequence[Delivery[Any]]) -> None:
        self.calls += 1
        self.fail(batch)
        self.done += [one.record.offset for one in batch]


async def worked(effect: Effect, records: Sequence[Record]) -> list[tuple[int, str]]:
    """Run a worker; the offsets and errors of what it refused."""
    refused: list[tuple[int, str]] = []

    async def keep(one: Record, error: Exception) -> None:
        refused.append((one.offset, str(error)))

    await Worker("svc", "h", effect, delivery, keep).work(records)
    return refused


async def test_a_replayed_letter_is_seen_by_its_handler_alone() -> None:
    effect = Effect()
    mine, other = ("irisloop-replay-for", b"svc.h"), ("irisloop-replay-for", b"svc.other")
    assert await worked(effect, [record(0), record(1, mine), record(2, other)]) == []
    assert effect.done == [0, 1]


async def test_an_error_that_will_not_pass_is_not_retried_but_cut_out() -> None:
    def fail(batch: Sequence[Delivery[Any]]) -> None:
        if any(one.record.offset == 5 for one in batch):
            raise NotFound("asset 5")

    effect = Effect(fail)
    assert await worked(effect, [record(number) for number in range(8)]) == [(5, "asset 5")]
    assert effect.done == [0, 1, 2, 3, 4, 6, 7]


async def test_a_bug_is_tried_a_few_times_before_anybody_is_blamed() -> None:
    failures = iter([ZeroDivisionError(), ZeroDivisionError()])

    def fail(batch: Sequence[Delivery[Any]]) -> None:
        error = next(failures, None)
        if error is not None:
            raise error

    effect = Effect(fail)
    assert await worked(effect, [record(0), record(1)]) == []
    assert (effect.done, effect.calls) == ([0, 1], 3)


async def test_a_wrong_index_blames_nobody_blindly() -> None:
    def fail(batch: Sequence[Delivery[Any]]) -> None:
        if any(one.record.offset == 1 for one in batch):
            raise PoisonedDelivery(99, "odd index")

    effect = Effect(fail)
    assert await worked(effect, [record(number) for number in range(3)]) == [(1, "odd index")]
    assert effect.done == [0, 2]


async def test_a_dead_letter_that_cannot_be_written_just_now_is_written_later() -> None:
    tries, kept = iter([Transient("away"), None]), []

    async def keep(one: Record, error: Exception) -> None:
        trouble = next(tries)
        if trouble is not None:
            raise trouble
        kept.append(one.offset)

    def refuse(one: Record) -> Delivery[Any]:
        raise InvalidMessage("no")

    await Worker("svc", "h", Effect(), refuse, keep).work([record(4)])
    assert kept == [4]


async def test_waiting_for_a_next_try_ends_when_the_listener_does() -> None:
    async def never(batch: Sequence[Delivery[Any]]) -> None:
        raise Transient("never")

    async def keep(one: Record, error: Exception) -> None:
        raise AssertionError("it may pass")

    worker = Worker("svc", "h", never, delivery, keep)
    task = asyncio.create_task(worker.work([record(0)]))
    async with asyncio.timeout(PATIENCE_S):
        while not worker.waiting:
            await asyncio.sleep(0)
    worker.stopping.set()
    with pytest.raises(Stopped):
        await task


class Connection:
    """One of aiokafka's."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Client:
    """A consumer or producer, with its connections by node; `stop` closes those that there are."""

    def __init__(self) -> None:
        self.client, self._conns = self, {1: Connection()}

    async def stop(self) -> None:
        for connection in self._conns.values():
            connection.close()


async def test_a_connection_that_is_made_while_its_client_is_closed_is_closed_too() -> None:
    client, late, made = Client(), Connection(), asyncio.Event()

    async def connected() -> Connection:
        await made.wait()
        return late

    async def connect() -> None:
        client._conns[2] = await connected()

    making = asyncio.create_task(connect())
    await asyncio.sleep(0)
    await close(client)
    assert not late.closed
    made.set()
    await making
    assert late.closed
    assert client._conns[2] is late


async def test_a_cancellation_that_comes_with_the_event_is_not_forgotten() -> None:
    event = asyncio.Event()
    task: asyncio.Task[bool] = asyncio.create_task(happens(event, 5))
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---- streams ----


def sorted_out(suspects: Suspects, records: Sequence[Record]) -> tuple[list[int], list[int]]:
    deliveries, refused = suspects.sort(records, delivery, "svc", "h")
    return [one.record.offset for one in deliveries], [one.offset for one, _ in refused]


def test_the_named_one_is_kept_once() -> None:
    suspects, records = Suspects(), [record(0), record(1), record(2)]
    suspects.blame([delivery(one) for one in records], PoisonedDelivery(1, "bad"))
    assert sorted_out(suspects, records) == ([0, 2], [1])
    suspects.passed(records, [(records[1], PoisonedDelivery(1, "bad"))])
    assert sorted_out(suspects, records) == ([0, 2], [])


def test_after_some_failures_records_come_one_by_one_until_the_culprit_is_found() -> None:
    suspects, records = Suspects(), [record(0), record(1)]
    for _ in range(3):
        assert suspects.limit(500) == 500
        suspects.blame([delivery(one) for one in records], ZeroDivisionError())
    assert suspects.limit(500) == 1
    suspects.passed(records[:1], [])
    for _ in range(3):
        suspects.blame([delivery(records[1])], ZeroDivisionError())
    assert sorted_out(suspects, records[1:]) == ([], [1])
    suspects.passed(records[1:], [])
    assert suspects.limit(500) == 500


def test_what_may_pass_blames_nobody() -> None:
    suspects = Suspects()
    for _ in range(20):
        suspects.blame([delivery(record(0))], Transient("later"))
    assert sorted_out(suspects, [record(0)]) == ([0], [])


def test_offsets_wait_while_the_processor_holds_records_and_go_together_after() -> None:
    progress = Progress()
    progress.note([record(0), record(1)])
    assert progress.settle(Outcome([], {})) == {}
    progress.note([record(2), record(0, topic="u")])
    assert progress.settle(Outcome([], None)) == {("t", 0): 3, ("u", 0): 1}
    assert progress.settle(Outcome([], None)) == {}
    assert progress.settle(Outcome([], {("t", 0): 2})) == {("t", 0): 2}
    assert progress.held


# ---- who gets what ----


class Cluster:
    """Partitions of topics, as the client's metadata gives them."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(6 if topic != "single" else 1))


def assigned(kind: type[CoPartitioned], *members: str) -> dict[str, dict[str, list[int]]]:
    metadata = {name: ConsumerProtocolMemberMetadata(0, ["a", "b", "single"], b"") for name in members}
    return {name: dict(got.assignment) for name, got in kind.assign(Cluster(), metadata).items()}


def test_one_number_of_every_topic_goes_to_one_member() -> None:
    got = assigned(CoPartitioned, "m2", "m1", "m3")
    assert all(one["a"] == one["b"] for one in got.values())
    assert sorted(number for one in got.values() for number in one["a"]) == list(range(6))
    assert {len(one["a"]) for one in got.values()} == {2}


def test_one_owner_gets_everything_and_the_others_nothing() -> None:
    got = assigned(OneOwner, "m2", "m1")
    assert got["m1"] == {"a": list(range(6)), "b": list(range(6)), "single": [0]}
    assert not any(got["m2"].values())


def test_a_member_gets_no_topic_that_it_does_not_hear() -> None:
    old, new = ConsumerProtocolMemberMetadata(0, ["a"], b""), ConsumerProtocolMemberMetadata(0, ["a", "b"], b"")
    for kind in (CoPartitioned, OneOwner):
        got = {name: dict(one.assignment) for name, one in kind.assign(Cluster(), {"m1": old, "m2": new}).items()}
        assert "b" not in got["m1"]
        assert got["m2"]["b"] == list(range(6))


def test_a_static_member_that_hears_other_topics_is_another_one() -> None:
    first = instance_id("g", 0, TOPICS[:2])
    assert first == instance_id("g", 0, TOPICS[1::-1])
    assert first not in (instance_id("g", 0, TOPICS[:3]), instance_id("g", 1, TOPICS[:2]))


# ---- topics and letters ----


def test_every_consumer_that_can_fail_for_good_has_its_dead_letters() -> None:
    wanted = {one.name: one for one in wanted_topics()}
    for topic in TOPICS:
        assert wanted[topic.name].partitions == (topic.partitions or CAMERA_PARTITIONS["laptop"])
        for consumer in topic.consumers:
            name = f"{topic.name}.{consumer.service}.dlq"
            assert (name in wanted) == (consumer.mode != "every-instance") or len(topic.consumers) > 1
    for name, origin in dead_letter_topics():
        room = int(wanted[name].config["max.message.bytes"]) - int(wanted[origin.name].config["max.message.bytes"])
        assert room >= 1 << 20
    assert wanted[FRAME_CAPTURED.name].config["message.timestamp.type"] == "LogAppendTime"
    assert sum(one.partitions for one in wanted.values()) <= 150


def test_a_letter_keeps_the_original_and_forgets_an_earlier_letter() -> None:
    origin = record(7, ("ce_id", b"x"), ("irisloop-replay-for", b"svc.h"), ("irisloop-reason", b"OLD"), value=b"\xff")
    raw = letter_of(origin, "svc", "h", InvalidMessage("no good", reason="BAD"))
    assert (raw.topic, raw.key, raw.value) == ("t.svc.dlq", b"k", b"\xff")
    letter = read_letter(Record("t.svc.dlq", 0, 0, AT, raw.key, raw.value, tuple(raw.headers)))
    assert (letter.reason, letter.error, letter.offset, letter.handler) == ("BAD", "no good", 7, "h")
    assert [name for name, _ in raw.headers].count("irisloop-reason") == 1
    assert letter.id == read_letter(Record("x", 0, 9, AT, None, b"", tuple(raw.headers))).id
    assert letter.record.first_seen == origin.timestamp
    assert record(7, ("irisloop-origin-time", b"yesterday")).first_seen == origin.timestamp


def test_the_alarm_looks_at_time_and_at_size() -> None:
    now_ms = (AT + timedelta(hours=13)).timestamp() * 1000
    waiting = Waiting(10, FRAME_CAPTURED.name, 0, int(AT.timestamp() * 1000), 1 << 20)
    assert share_of(waiting, 10, FRAME_CAPTURED, now_ms) == pytest.approx(13 / 24)
    assert share_of(waiting, 3072, FRAME_CAPTURED, now_ms) == pytest.approx(0.75)


def test_noise_is_counted_and_the_rest_is_said() -> None:
    noisy = logging.LogRecord("aiokafka", logging.WARNING, "", 0, "Heartbeat failed for group %s", ("g",), None)
    telling = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "Unexpected error in sender routine", (), None)
    assert not NoiseFilter().filter(noisy)
    assert NoiseFilter().filter(telling)
