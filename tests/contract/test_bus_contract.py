"""What every bus promises; run against the bus in memory and against a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.common.bus import Delivery, Event, Follow, Outcome, Stream, Subscription, Topic, abreast, streamed
from services.common.bus.cloudevents import Raw
from services.common.bus.deadletter import Letter, read_letter
from services.common.errors import Conflict, InvalidMessage, PoisonedDelivery, Transient
from services.common.telemetry import bind_trace, current_traceparent, trace_id
from tests.contract.houses import AT, AnyBus, Echo, Hearer, House, letters_of, running, said, texts
from tests.waiting import PATIENCE_S, until

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


async def test_an_event_arrives_as_it_was_said(house: House) -> None:
    topic, hearer = await house.topic(), Hearer()
    bus = house.bus()
    bus.subscribe(Subscription(topic, "hear", hearer))
    async with running(bus):
        await bus.publish([Event(topic, "camera/gate-1", StringValue(value="hello"), "id-1", AT, TRACE)])
        await until(lambda: hearer.deliveries)
    (one,) = hearer.deliveries
    assert (one.key, one.value.value, one.ce_id, one.ce_time) == ("camera/gate-1", "hello", "id-1", AT)
    assert (one.ce_source, one.traceparent) == ("/irisloop/one", TRACE)
    assert one.record.header("ce_type") == b"google.protobuf.StringValue"
    assert one.record.header("content-type") == b"application/protobuf"


async def test_a_camera_lies_in_one_partition_with_and_without_its_prefix(house: House) -> None:
    topic = await house.topic(7)
    async with house.bus() as bus:
        await bus.publish([said(topic, "a", "gate-1"), said(topic, "b", "camera/gate-1"), said(topic, "c", "", "", 6)])
        places = {one.value: one.partition for one in await bus.read_named(topic.name)}
        assert await bus.partitions(topic) == 7
    by_word = {StringValue.FromString(value).value: partition for value, partition in places.items()}
    assert by_word["a"] == by_word["b"]
    assert by_word["c"] == 6


async def test_a_key_s_events_arrive_in_order_and_batches_stay_small(house: House) -> None:
    topic, hearer = await house.topic(), Hearer()
    bus = house.bus()
    bus.subscribe(Subscription(topic, "hear", hearer, max_batch=10))
    events = [said(topic, f"{number}", f"key-{number % 5}") for number in range(200)]
    async with running(bus):
        await bus.publish(events[:120])
        await bus.publish(events[120:])
        await until(lambda: len(hearer.words) == 200)
    for key in range(5):
        mine = [int(word) for word in hearer.words if int(word) % 5 == key]
        assert mine == sorted(mine)
    assert max(len(batch) for batch in hearer.batches) <= 10


async def test_a_group_divides_the_partitions_and_goes_on_where_it_stopped(house: House) -> None:
    topic, first, second, third = await house.topic(4), Hearer(), Hearer(), Hearer()
    bus, other = house.bus(replica=0), house.bus(replica=1)
    bus.subscribe(Subscription(topic, "hear", first))
    other.subscribe(Subscription(topic, "hear", second))
    async with running(bus, other):
        await until(lambda: divided([bus, other]))
        for number in range(100):
            await bus.publish([said(topic, str(number))])
        await until(lambda: len(first.words) + len(second.words) == 100)
        assert first.words
        assert second.words
    later = house.bus()
    later.subscribe(Subscription(topic, "hear", third))
    async with running(later):
        await later.publish([said(topic, "last")])
        await until(lambda: third.words)
    assert sorted(first.words + second.words, key=int) == [str(number) for number in range(100)]
    assert third.words == ["last"]


def divided(buses: Sequence[Any]) -> bool:
    """Whether each of Kafka's two consumers holds two partitions; in memory they divide at once."""
    lanes = [len(listener._lanes) for bus in buses for listener in bus._listeners if hasattr(listener, "_lanes")]
    return lanes in ([], [2, 2])


async def test_what_may_pass_is_tried_until_it_does_and_said_meanwhile(house: House) -> None:
    broken = True

    async def fail(batch: Sequence[Delivery[Any]]) -> None:
        if broken:
            raise Transient("the shelf is locked")

    topic, hearer = await house.topic(1), Hearer(fail)
    bus = house.bus()
    bus.subscribe(Subscription(topic, "hear", hearer))
    async with running(bus):
        await bus.publish([said(topic, "a"), said(topic, "b")])
        await until(lambda: "the shelf is locked" in bus.waiting_for())
        broken = False
        await until(lambda: hearer.words == ["a", "b"])
        await until(lambda: bus.waiting_for() == "")
        assert await letters_of(bus, topic) == []


async def test_a_stop_does_not_wait_for_what_never_passes_and_loses_nothing(house: House) -> None:
    async def fail(batch: Sequence[Delivery[Any]]) -> None:
        raise Transient("never")

    topic, hearer = await house.topic(1), Hearer()
    bus, later = house.bus(), house.bus()
    bus.subscribe(Subscription(topic, "hear", Hearer(fail)))
    async with asyncio.timeout(PATIENCE_S):
        async with running(bus):
            await bus.publish([said(topic, "a")])
            await until(lambda: "never" in bus.waiting_for())
    later.subscribe(Subscription(topic, "hear", hearer))
    async with running(later):
        await until(lambda: hearer.words == ["a"])
        assert await letters_of(later, topic) == []


async def test_a_stop_lets_the_batch_in_hand_end_and_commits_it(house: House) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(batch: Sequence[Delivery[Any]]) -> None:
        begun.set()
        await go_on.wait()

    topic, first, second = await house.topic(1), Hearer(slow), Hearer()
    bus, later = house.bus(), house.bus()
    bus.subscribe(Subscription(topic, "hear", first))
    async with running(bus) as (task,):
        await bus.publish([said(topic, "a")])
        await begun.wait()
        task.cancel()
        asyncio.get_running_loop().call_later(0.3, go_on.set)
        await asyncio.wait([task])
        assert first.words == ["a"]
    later.subscribe(Subscription(topic, "hear", second))
    async with running(later):
        await later.publish([said(topic, "b")])
        await until(lambda: second.words)
    assert second.words == ["b"]


async def test_one_poisoned_delivery_is_kept_and_the_others_take_effect(house: House) -> None:
    async def fail(batch: Sequence[Delivery[Any]]) -> None:
        for index, one in enumerate(batch):
            if one.value.value == "bad":
                raise PoisonedDelivery(index, "it is bad", field="value", reason="BAD")

    topic, hearer = await house.topic(1), Hearer(fail)
    bus = house.bus()
    bus.subscribe(Subscription(topic, "hear", hearer))
    async with running(bus):
        await bus.publish([said(topic, word, "k") for word in ("a", "bad", "b")])
        await until(lambda: hearer.words == ["a", "b"])
        await until_letters(bus, topic, 1)
        (record,) = await letters_of(bus, topic)
    letter = read_letter(record)
    assert (letter.reason, letter.error, letter.service, letter.handler) == ("BAD", "it is bad", "one", "hear")
    assert (letter.topic, letter.partition, letter.offset) == (topic.name, 0, 1)
    assert StringValue.FromString(record.value).value == "bad"
    assert (record.key, record.header("ce_id")) == (b"k", b"id-bad")
    assert record.header("irisloop-origin-time")


async def test_a_bug_that_meets_some_is_cut_out_by_halves(house: House) -> None:
    async def fail(batch: Sequence[Delivery[Any]]) -> None:
        if any(one.value.value.startswith("bad") for one in batch):
            raise ZeroDivisionError("a bug")

    topic, hearer = await house.topic(1), Hearer(fail)
    bus = house.bus()
    bus.subscribe(Subscription(topic, "hear", hearer))
    words = [f"bad-{number}" if number in (3, 17) else f"good-{number}" for number in range(20)]
    async with running(bus):
        await bus.publish([said(topic, word, "k") for word in words])
        await until(lambda: len(hearer.words) == 18)
        await until_letters(bus, topic, 2)
        kept = [StringValue.FromString(record.value).value for record in await letters_of(bus, topic)]
    assert hearer.words == [word for word in words if word.startswith("good")]
    assert kept == ["bad-3", "bad-17"]


async def until_letters(bus: AnyBus, topic: Any, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(await letters_of(bus, topic)) < count:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("value", "headers", "field"),
    [
        (b"\xff\xff\xff", [("content-type", b"application/protobuf")], b"NOT_PROTOBUF"),
        (b"x", [("content-type", b"text/plain")], b"INVALID"),
        (b"", [("ce_type", b"irisloop.other.v1.Thing")], b"INVALID"),
        (b"", [("ce_time", b"yesterday")], b"INVALID"),
    ],
)
async def test_what_cannot_be_read_is_kept_with_its_bytes(
    house: House, value: bytes, headers: list[tuple[str, bytes]], field: bytes
) -> None:
    topic, hearer = await house.topic(1), Hearer()
    bus = house.bus()
    bus.subscribe(Subscription(topic, "hear", hearer))
    async with running(bus):
        await bus.publish_raw([Raw(topic.name, b"k", value, headers)])
        await bus.publish([said(topic, "good")])
        await until(lambda: hearer.words == ["good"])
        await until_letters(bus, topic, 1)
        (record,) = await letters_of(bus, topic)
    assert record.value == value
    assert record.header("irisloop-reason") == field
    assert set(headers) <= set(record.headers)


async def test_an_event_said_while_handling_goes_on_in_its_trace(house: House) -> None:
    topic, out, hearer = await house.topic(1), await house.topic(1), Hearer()
    bus = house.bus()

    async def answer(batch: Sequence[Delivery[Any]]) -> None:
        assert trace_id(current_traceparent()) == "ab" * 16
        await bus.publish([said(out, "inherits"), Event(out, "k", StringValue(), "own", AT, TRACE.replace("ab", "ef"))])

    bus.subscribe(Subscription(topic, "answer", answer))
    bus.subscribe(Subscription(out, "hear", hearer))
    async with running(bus):
        with bind_trace(TRACE):
            await bus.publish([said(topic, "a")])
        await until(lambda: len(hearer.deliveries) == 2)
    assert {one.ce_id: trace_id(one.traceparent) for one in hearer.deliveries} == {
        "id-inherits": "ab" * 16,
        "own": "ef" * 16,
    }


async def test_every_instance_reads_everything_before_it_is_ready(house: House) -> None:
    topic, first, second = await house.topic(3), Hearer(), Hearer()
    async with house.bus("writer") as writer:
        await writer.publish([said(topic, str(number)) for number in range(50)])
        bus, other = house.bus(replica=0), house.bus(replica=1)
        bus.follow(Follow(topic, "know", first))
        other.follow(Follow(topic, "know", second))
        assert topic.name in bus.waiting_for()
        async with running(bus, other):
            assert len(first.words) == len(second.words) == 50
            await writer.publish([said(topic, "new")])
            await until(lambda: "new" in first.words and "new" in second.words)
    assert len(first.words) == len(second.words) == 51


async def test_a_follower_passes_over_what_it_cannot_read(house: House) -> None:
    topic, hearer = await house.topic(1), Hearer()
    bus = house.bus()
    async with house.bus("writer") as writer:
        await writer.publish_raw([Raw(topic.name, b"k", b"\xff\xff", [])])
        await writer.publish([said(topic, "good")])
    bus.follow(Follow(topic, "know", hearer))
    async with running(bus):
        assert hearer.words == ["good"]


async def test_read_gives_what_is_committed_and_its_last_few(house: House) -> None:
    topic = await house.topic(2)
    async with house.bus() as bus:
        assert await bus.read(topic, 0) == []
        async with bus.one_writer("test.writer") as write:
            for number in range(30):
                await write([Raw(topic.name, b"k", StringValue(value=str(number)).SerializeToString(), [], 0)])
        everything = [StringValue.FromString(one.value).value for one in await bus.read(topic, 0)]
        last = [StringValue.FromString(one.value).value for one in await bus.read(topic, 0, last=4)]
        assert everything == [str(number) for number in range(30)]
        assert last == ["26", "27", "28", "29"]
        assert len(await bus.read(topic, 0, last=100)) == 30
        assert await bus.read(topic, 1, last=4) == []


async def test_an_event_that_no_topic_takes_is_refused_at_once(house: House) -> None:
    topic = await house.topic(1)
    async with house.bus() as bus:
        with pytest.raises(InvalidMessage, match="larger than"):
            await bus.publish([said(topic, "x" * (2 << 20), "k")])
        await bus.publish([said(topic, "small")])
        assert await texts(bus, topic) == ["small"]


# ---- streams ----


async def test_a_step_is_seen_whole_or_not_at_all(house: House) -> None:
    topic, out = await house.topic(3), await house.topic(3)
    echo, bus = Echo(out), house.bus()
    failures = iter(range(3))

    def fail(batch: Sequence[Delivery[Any]]) -> None:
        if next(failures, None) is not None:
            raise Transient("not now")

    echo.fail = fail
    bus.stream(Stream((topic,), "echo", echo))
    words = [str(number) for number in range(60)]
    async with running(bus):
        await bus.publish([said(topic, word) for word in words])
        await until_said(bus, out, 60)
        assert sorted(await texts(bus, out)) == sorted(words)
        assert await letters_of(bus, topic) == []
    assert sorted(echo.released) == [0, 1, 2]


async def until_said(bus: AnyBus, topic: Any, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(await texts(bus, topic)) < count:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("error", [PoisonedDelivery(0, "bad"), InvalidMessage("bad"), ZeroDivisionError("bad")])
async def test_what_a_stream_cannot_take_is_kept_in_the_same_transaction(house: House, error: Exception) -> None:
    topic, out = await house.topic(1), await house.topic(1)
    echo, bus = Echo(out), house.bus()

    def fail(batch: Sequence[Delivery[Any]]) -> None:
        for index, one in enumerate(batch):
            if one.value.value == "bad":
                raise PoisonedDelivery(index, "bad") if isinstance(error, PoisonedDelivery) else error

    echo.fail = fail
    bus.stream(Stream((topic,), "echo", echo))
    async with running(bus):
        await bus.publish([said(topic, word, "k") for word in ("a", "bad", "b", "c")])
        await until_said(bus, out, 3)
        assert await texts(bus, out) == ["a", "b", "c"]
        await until_letters(bus, topic, 1)
        (record,) = await letters_of(bus, topic)
    assert (read_letter(record).handler, record.header("ce_id")) == ("echo", b"id-bad")


async def test_a_stream_goes_on_where_its_last_transaction_ended(house: House) -> None:
    topic, out = await house.topic(2), await house.topic(2)
    for begin in (0, 20, 40):
        echo, bus = Echo(out), house.bus()
        bus.stream(Stream((topic,), "echo", echo))
        async with running(bus):
            await bus.publish([said(topic, str(number)) for number in range(begin, begin + 20)])
            await until_said(bus, out, begin + 20)
        assert sorted(echo.heard, key=int) == [str(number) for number in range(begin, begin + 20)]
        assert sum(count for _, count in echo.restored) == begin
    async with house.bus() as reader:
        assert sorted(await texts(reader, out), key=int) == [str(number) for number in range(60)]


async def test_a_stream_that_rests_after_a_silence_misses_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "SILENT_S", 0.0)
    topic, out = await house.topic(2), await house.topic(2)
    echo, bus = Echo(out), house.bus()
    bus.stream(Stream((topic,), "echo", echo, max_batch=4))
    words = [f"{number:02}" for number in range(48)]
    async with running(bus):
        for begin in range(0, 48, 12):
            await bus.publish([said(topic, word, "k") for word in words[begin : begin + 12]])
            await until_said(bus, out, begin + 12)
            await asyncio.sleep(2 * streamed.REST_S)
        assert await texts(bus, out) == words


class Timed(Echo):
    """Also keeps the broker's times of what it heard."""

    def __init__(self, out: Topic[StringValue]) -> None:
        super().__init__(out)
        self.times: list[datetime] = []

    async def process(self, unit: int, batch: Sequence[Delivery[Any]]) -> Outcome:
        self.times += [one.record.timestamp for one in batch]
        return await super().process(unit, batch)


async def test_a_backlog_is_heard_in_the_order_of_time_however_uneven_the_partitions_are(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abreast, "PATIENCE_S", 120.0)
    topic, out = await house.topic(2), await house.topic(2)
    long = "x" * 4_000  # More than a fetch of the busy partition.
    async with house.bus() as writer:
        for number in range(30):
            busy = [said(topic, f"{number}/{more}/{long}", "b", partition=0) for more in range(50)]
            await writer.publish([*busy, said(topic, f"{number}", "q", partition=1)])
            await asyncio.sleep(0.02)
    timed, bus = Timed(out), house.bus()
    bus.stream(Stream((topic,), "echo", timed, scope="all", max_batch=100))
    async with running(bus):
        await until(lambda: len(timed.times) == 30 * 51)
    ahead = [max(timed.times[: place + 1]) - at for place, at in enumerate(timed.times)]
    assert max(ahead) <= timedelta(milliseconds=abreast.SLACK_MS)


async def test_what_is_held_back_comes_again_and_what_is_let_go_does_not(house: House) -> None:
    topic, out = await house.topic(1), await house.topic(1)
    holding, bus = Echo(out, held=True), house.bus()
    bus.stream(Stream((topic,), "echo", holding, scope="all"))
    async with running(bus):
        await bus.publish([said(topic, "a"), said(topic, "b")])
        await until(lambda: holding.heard == ["a", "b"])
        await bus.publish_raw([Raw(topic.name, b"k", b"\xff\xff", [])])
        await until_letters(bus, topic, 1)
    again, later = Echo(out), house.bus()
    later.stream(Stream((topic,), "echo", again, scope="all"))
    async with running(later):
        await until(lambda: again.heard == ["a", "b"])
        await until_said(later, out, 2)
    third, last = Echo(out), house.bus()
    last.stream(Stream((topic,), "echo", third, scope="all"))
    async with running(last):
        await last.publish([said(topic, "c")])
        await until(lambda: third.heard)
    assert third.heard == ["c"]


@pytest.mark.parametrize("scope", ["partition", "all"])
async def test_another_instance_takes_over_and_nothing_is_said_twice(house: House, scope: Any) -> None:
    topic, out = await house.topic(4), await house.topic(4)
    first, second = Echo(out), Echo(out)
    bus, other = house.bus(replica=0), house.bus(replica=1)
    bus.stream(Stream((topic,), "echo", first, scope=scope))
    other.stream(Stream((topic,), "echo", second, scope=scope))
    async with house.bus("writer") as writer:
        async with running(other):
            async with running(bus):
                for number in range(100):
                    await writer.publish([said(topic, str(number))])
            for number in range(100, 150):
                await writer.publish([said(topic, str(number))])
            await until_said(writer, out, 150)
        assert sorted(await texts(writer, out), key=int) == [str(number) for number in range(150)]
    assert set(range(100, 150)) <= {int(word) for word in second.heard}


# ---- dead letters go back ----


async def test_a_replay_reaches_the_handler_that_failed_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.common.bus import deadletter

    topic = await house.topic(2)
    monkeypatch.setattr(deadletter, "dead_letter_topics", lambda: [(f"{topic.name}.one.dlq", topic)])
    fixed = False

    async def fail(batch: Sequence[Delivery[Any]]) -> None:
        if not fixed and batch[0].value.value == "bad":
            raise InvalidMessage("bad", reason="BAD")

    picky, easy, foreign = Hearer(fail), Hearer(), Hearer()
    bus, two = house.bus(), house.bus("two")
    bus.subscribe(Subscription(topic, "picky", picky, max_batch=1))
    bus.subscribe(Subscription(topic, "easy", easy))
    two.subscribe(Subscription(topic, "picky", foreign))
    async with running(bus, two):
        await bus.publish([said(topic, "bad"), said(topic, "good")])
        await until_letters(bus, topic, 1)
        found = await deadletter.letters(bus)
        assert [(one.handler, one.reason) for one in found] == [("picky", "BAD")]
        assert deadletter.counts(found) == {(topic.name, "one.picky", "BAD"): 1}
        assert (await deadletter.find_letter(bus, found[0].id[:8])).id == found[0].id
        fixed = True
        assert await replayed(bus, found) == 1
        assert await replayed(bus, found) == 0
        assert await deadletter.letters(bus) == []
        await bus.publish([said(topic, "end-0", partition=0), said(topic, "end-1", partition=1)])
        await until(lambda: all(sum("end" in w for w in one.words) == 2 for one in (picky, easy, foreign)))
    assert sorted(picky.words) == ["bad", "end-0", "end-1", "good"]
    assert sorted(easy.words) == sorted(foreign.words) == ["bad", "end-0", "end-1", "good"]
    again = next(one for one in picky.deliveries if one.value.value == "bad")
    assert (again.ce_id, again.ce_time) == ("id-bad", AT)


async def replayed(bus: AnyBus, found: list[Letter]) -> int:
    from services.common.bus.deadletter import replay

    return await replay(bus, found)


async def test_of_two_writers_of_one_name_the_later_wins(house: House) -> None:
    topic = await house.topic(1)
    raw = Raw(topic.name, b"k", StringValue(value="late").SerializeToString(), [])
    async with house.bus() as bus:
        with pytest.raises(Conflict):
            async with bus.one_writer("test.single") as early:
                async with bus.one_writer("test.single") as late:
                    await late([raw])
                await early([raw])
        assert await texts(bus, topic) == ["late"]
