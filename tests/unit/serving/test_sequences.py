"""Sequences run in order, several side by side; slots, the backlog, idle ones, and what the graph is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.serving.domain.config import Control, ControlKind, SequenceBatching
from services.serving.domain.sequences import SequenceQueue, with_controls
from services.serving.domain.work import Asked, SequenceMark, Work
from services.serving.errors import BadRequest, Overloaded

IDLE_US = 1000
IDLE_NS = IDLE_US * 1000


def request(id: int | str, flags: str = "", rows: int = 1) -> Work:
    """`flags`: s for START, e for END."""
    mark = SequenceMark(id, start="s" in flags, end="e" in flags)
    return Work({"x": np.zeros((rows, 1))}, rows, lambda result, last: None, Asked(sequence=mark))


def queue(slots: int = 2, instances: int = 1, most: int = 100, **batching: Any) -> SequenceQueue:
    return SequenceQueue("m", SequenceBatching(max_sequence_idle_us=IDLE_US, **batching), slots, instances, most)


def push(waiting: SequenceQueue, *works: Work, now_ns: int = 0) -> list[Work]:
    for one in works:
        waiting.push(one, now_ns)
    return list(works)


def run(waiting: SequenceQueue, now_ns: int = 0) -> list[Work]:
    """One batch, begun and ended."""
    batch, refused = waiting.take(now_ns)
    assert refused == []
    waiting.done(batch, now_ns)
    return batch


def test_requests_of_one_sequence_run_one_after_the_other_and_of_several_together() -> None:
    waiting = queue()
    a1, a2, b1, b2 = push(waiting, request(1, "s"), request(1, "e"), request(2, "s"), request(2, "e"))
    assert waiting.take(0)[0] == [a1, b1]
    assert waiting.take(0) == ([], [])
    waiting.done([a1, b1], 0)
    assert waiting.take(0)[0] == [a2, b2]
    assert len(waiting) == 0


def test_a_batch_holds_no_more_sequences_than_the_model_takes() -> None:
    waiting = queue(slots=1, instances=2)
    a, b = push(waiting, request(1, "se"), request(2, "se"))
    assert waiting.take(0)[0] == [a]
    assert waiting.take(0)[0] == [b]


def test_sequences_without_a_slot_wait_for_one_that_ends_oldest_first() -> None:
    waiting = queue(slots=1)
    a1, b1, c1 = push(waiting, request("a", "s"), request("b", "se"), request("c", "se"))
    assert run(waiting) == [a1]
    assert run(waiting) == []
    (a2,) = push(waiting, request("a", "e"))
    assert [run(waiting) for _ in range(3)] == [[a2], [b1], [c1]]


def test_the_oldest_strategy_has_as_many_slots_as_candidates() -> None:
    waiting = queue(slots=1, strategy="oldest", max_candidate_sequences=2)
    a, b, c = push(waiting, request(1, "s"), request(2, "s"), request(3, "s"))
    assert [run(waiting) for _ in range(3)] == [[a], [b], []]
    assert len(waiting) == 1
    push(waiting, request(1, "e"))
    run(waiting)
    assert run(waiting) == [c]


@pytest.mark.parametrize("id", [0, ""])
def test_a_request_without_a_correlation_id_is_refused(id: int | str) -> None:
    with pytest.raises(BadRequest, match="must specify a non-zero or non-empty correlation ID"):
        queue().push(request(id, "s"), 0)


def test_a_request_of_several_rows_is_refused() -> None:
    with pytest.raises(BadRequest, match="must specify batch-size 1"):
        queue().push(request(1, "s", rows=2), 0)


@pytest.mark.parametrize("id", [7, "seven"])
def test_a_sequence_must_start_also_after_its_end(id: int | str) -> None:
    waiting = queue()
    with pytest.raises(BadRequest, match=f"sequence {id} to model 'm' must specify the START"):
        waiting.push(request(id), 0)
    push(waiting, request(id, "s"), request(id, "e"))
    with pytest.raises(BadRequest, match="START"):
        waiting.push(request(id), 0)


def test_an_id_that_starts_again_runs_after_what_it_had_before() -> None:
    waiting = queue(slots=4)
    before = push(waiting, request(5, "s"), request(5), request(5, "e"))
    again = push(waiting, request(5, "s"), request(5, "e"))
    assert [run(waiting) for _ in range(5)] == [[one] for one in (*before, *again)]
    unended = push(waiting, request(5, "s"), request(5))
    restart = push(waiting, request(5, "s"))
    assert [run(waiting) for _ in range(3)] == [[one] for one in (*unended, *restart)]


def test_string_and_number_ids_are_different_sequences() -> None:
    waiting = queue()
    one, text = push(waiting, request(1, "s"), request("1", "s"))
    assert run(waiting) == [one, text]


def test_an_idle_sequence_is_forgotten_and_its_slot_given_away() -> None:
    waiting = queue(slots=1)
    push(waiting, request(1, "s"))
    run(waiting)
    (other,) = push(waiting, request(2, "s"), now_ns=10)
    assert run(waiting, IDLE_NS) == []
    assert waiting.wake_ns() == IDLE_NS + 1
    assert run(waiting, IDLE_NS + 1) == [other]
    with pytest.raises(BadRequest, match="START"):
        waiting.push(request(1), IDLE_NS + 2)


def test_a_sequence_that_is_used_does_not_expire() -> None:
    waiting = queue()
    push(waiting, request(1, "s"))
    run(waiting, 0)
    for step in range(1, 5):
        now = step * (IDLE_NS - 1)
        (one,) = push(waiting, request(1), now_ns=now)
        assert run(waiting, now) == [one]


def test_a_sequence_does_not_expire_while_it_runs_or_waits() -> None:
    waiting = queue(slots=1)
    (one,) = push(waiting, request(1, "s"))
    assert waiting.take(0)[0] == [one]
    push(waiting, request(1), now_ns=50 * IDLE_NS)
    waiting.done([one], 100 * IDLE_NS)
    assert len(run(waiting, 100 * IDLE_NS)) == 1


def test_nothing_has_to_be_woken_while_no_sequence_waits_for_a_slot() -> None:
    waiting = queue(slots=1)
    push(waiting, request(1, "s"))
    run(waiting)
    assert waiting.wake_ns() == 0


def test_the_bound_of_waiting_requests_refuses_more() -> None:
    waiting = queue(most=2)
    push(waiting, request(1, "s"), request(1))
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        waiting.push(request(1), 0)


def test_a_cancelled_request_ends_its_sequence_and_what_waits_behind_it() -> None:
    waiting = queue(slots=1)
    first, second, third = push(waiting, request(1, "s"), request(1), request(1))
    (other,) = push(waiting, request(2, "s"))
    assert run(waiting) == [first]
    second.cancelled = True
    batch, refused = waiting.take(0)
    assert batch == [other]
    assert [one for one, _ in refused] == [second, third]
    assert "was cancelled; begin it again" in str(refused[1][1])
    assert len(waiting) == 0
    with pytest.raises(BadRequest, match="START"):
        waiting.push(request(1), 0)


def test_draining_takes_out_what_waits_with_and_without_a_slot() -> None:
    waiting = queue(slots=1)
    works = push(waiting, request(1, "s"), request(1), request(2, "s"))
    assert waiting.drain() == works
    assert (len(waiting), waiting.take(0)) == (0, ([], []))


CONTROLS = (
    Control("START", ControlKind.START, "INT32", (0, 1)),
    Control("END", ControlKind.END, "BOOL"),
    Control("READY", ControlKind.READY, "FP32", (-1.0, 2.5)),
)


@pytest.mark.parametrize("batched", [True, False])
def test_the_graph_hears_of_start_end_and_ready_one_value_a_row(batched: bool) -> None:
    batch = [request(1, "s"), request(2, "e")][: 2 if batched else 1]
    found = with_controls({"x": np.zeros((len(batch), 1))}, batch, CONTROLS, batched)
    assert [found[name].dtype for name in ("START", "END", "READY")] == [np.int32, np.bool_, np.float32]
    assert [found[name].shape for name in ("START", "END", "READY")] == [(2, 1) if batched else (1,)] * 3
    assert found["START"].ravel().tolist() == [1, 0][: len(batch)]
    assert found["END"].ravel().tolist() == [False, True][: len(batch)]
    assert found["READY"].ravel().tolist() == [2.5] * len(batch)


@pytest.mark.parametrize(
    ("datatype", "ids", "expected"),
    [("UINT64", (2**63, 7), [2**63, 7]), ("INT32", (5, 6), [5, 6]), ("BYTES", ("a", 9), [b"a", b"9"])],
)
def test_the_graph_hears_of_correlation_ids(datatype: str, ids: tuple[int | str, ...], expected: list[Any]) -> None:
    control = Control("ID", ControlKind.CORRID, datatype)
    found = with_controls({}, [request(one, "s") for one in ids], (control,), True)
    assert (found["ID"].shape, found["ID"].ravel().tolist()) == ((2, 1), expected)


def test_a_text_id_is_refused_where_the_graph_takes_numbers() -> None:
    control = Control("ID", ControlKind.CORRID, "INT64")
    with pytest.raises(BadRequest, match="control input 'ID' takes INT64 correlation ids, not strings"):
        with_controls({}, [request("a", "s")], (control,), True)
