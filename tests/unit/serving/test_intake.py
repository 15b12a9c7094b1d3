"""Calls between the wire and the reader: bounded, in order, and given up while that is still cheap."""

from __future__ import annotations

from inference import grpc_service_pb2 as pb

from services.serving.domain.config import DynamicBatching, QueuePolicy
from services.serving.domain.queueing import GreedyQueue
from services.serving.domain.work import Work
from services.serving.inbound.intake import Arrival, Intake
from services.serving.inbound.wire import model_of

MS = 1_000_000


def arrival(identity: int, taken_ms: int = 0, payload: bytes = b"") -> Arrival:
    return Arrival(identity, payload, (), taken_ms * MS)


def numbers(arrivals: object) -> list[int]:
    assert isinstance(arrivals, list)
    return [one.identity for one in arrivals]


def test_what_has_no_room_is_not_taken() -> None:
    intake = Intake(2, lambda payload: 0)
    assert [intake.put(arrival(number)) for number in range(3)] == [True, True, False]
    found, late = intake.take(1, 0)
    assert (numbers(found), numbers(late), len(intake)) == ([0], [], 1)
    assert intake.put(arrival(3))


def test_who_waited_half_of_what_the_model_allows_is_late() -> None:
    intake = Intake(9, lambda payload: 100 * MS)
    for number in range(4):
        intake.put(arrival(number, taken_ms=number * 20))
    found, late = intake.take(9, 71 * MS)
    assert (numbers(found), numbers(late)) == ([2, 3], [0, 1])


def test_a_patient_model_lets_all_wait() -> None:
    intake = Intake(9, lambda payload: 0)
    intake.put(arrival(0))
    found, late = intake.take(9, 3_600_000 * MS)
    assert (numbers(found), numbers(late)) == ([0], [])


def test_only_late_ones_leave_room_for_those_behind_them() -> None:
    intake = Intake(9, lambda payload: 0 if payload == b"patient" else MS * 10)
    for number, payload in enumerate([b"", b"", b"patient", b"patient"]):
        intake.put(arrival(number, payload=payload))
    found, late = intake.take(1, 50 * MS)
    assert (numbers(found), numbers(late), len(intake)) == ([2], [0, 1], 1)


def test_the_model_is_read_from_the_beginning_of_the_message() -> None:
    assert model_of(pb.ModelInferRequest(model_name="größe", id="x").SerializeToString()) == "größe"
    assert model_of(pb.ModelInferRequest(model_version="1").SerializeToString()) == ""
    assert model_of(pb.ModelInferRequest(model_name="m" * 128).SerializeToString()) == ""
    assert model_of(b"") == model_of(b"\n") == ""
    assert model_of(b"\n\x02\xff\xfe") == "��"


def test_a_model_waits_as_long_as_its_most_patient_priority() -> None:
    short, long = QueuePolicy(default_timeout_us=10), QueuePolicy(default_timeout_us=30)
    assert DynamicBatching(default_policy=short).longest_wait_us() == 10
    assert DynamicBatching(default_policy=short, priority_policies={2: long}).longest_wait_us() == 30
    assert DynamicBatching(default_policy=short, priority_policies={2: QueuePolicy()}).longest_wait_us() == 0
    assert DynamicBatching(default_policy=QueuePolicy(default_timeout_us=5, delay=True)).longest_wait_us() == 0
    assert DynamicBatching().longest_wait_us() == 0


def test_the_time_before_the_queue_counts() -> None:
    policy = QueuePolicy(default_timeout_us=100_000)
    queue = GreedyQueue("m", DynamicBatching(default_policy=policy), 4, 100)
    early, late = (Work({}, 1, lambda result, last: None, queued_ns=taken * MS) for taken in (1, 80))
    queue.push(early, 90 * MS)
    queue.push(late, 90 * MS)
    batch, refused = queue.take(102 * MS)
    assert batch == [late]
    assert [work for work, _ in refused] == [early]
