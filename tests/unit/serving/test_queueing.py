"""What waits for a model, and what runs next: greedy, by priority, within bounds and in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.serving.domain.config import DynamicBatching, QueuePolicy
from services.serving.domain.queueing import GreedyQueue
from services.serving.domain.work import Asked, Work
from services.serving.errors import Overloaded

US = 1000


def work(rows: int = 1, width: int = 2, *, background: bool = False, **asked: Any) -> Work:
    inputs = {"x": np.zeros((rows, width), np.float32)}
    return Work(inputs, rows, lambda result, last: None, Asked(**asked), background=background)


GREEDY = DynamicBatching()


def queue(batching: DynamicBatching | None = GREEDY, max_rows: int = 4, most: int = 100) -> GreedyQueue:
    return GreedyQueue("m", batching, max_rows, most)


def levels(**policies: Any) -> DynamicBatching:
    return DynamicBatching(priority_levels=3, default_priority_level=2, **policies)


def pushed(waiting: GreedyQueue, *works: Work, now_ns: int = 0) -> list[Work]:
    for one in works:
        waiting.push(one, now_ns)
    return list(works)


def test_what_waits_runs_together_up_to_the_largest_batch_and_in_order() -> None:
    waiting = queue(max_rows=4)
    one, two, three, four = pushed(waiting, work(2), work(1), work(2), work(1))
    assert waiting.take(0) == ([one, two], [])
    assert waiting.take(0) == ([three, four], [])
    assert waiting.take(0) == ([], [])


def test_requests_of_other_shapes_or_other_optional_inputs_start_a_batch_of_their_own() -> None:
    waiting = queue()
    first, wide = pushed(waiting, work(), work(width=3))
    both = Work({**work().inputs, "y": np.zeros((1, 1))}, 1, lambda result, last: None)
    pushed(waiting, both)
    assert [waiting.take(0)[0] for _ in range(3)] == [[first], [wide], [both]]


def test_without_dynamic_batching_every_request_runs_alone() -> None:
    waiting = queue(None)
    one, two = pushed(waiting, work(), work())
    assert [waiting.take(0)[0] for _ in range(2)] == [[one], [two]]


def test_a_request_larger_than_a_batch_is_taken_by_itself() -> None:
    waiting = queue(max_rows=4)
    large, small = pushed(waiting, work(9), work(1))
    assert [waiting.take(0)[0] for _ in range(2)] == [[large], [small]]


def test_priorities_are_served_in_their_order_and_unknown_ones_as_the_default() -> None:
    waiting = queue(levels(), max_rows=1)
    third, default, beyond, first = pushed(waiting, work(priority=3), work(), work(priority=9), work(priority=1))
    assert [waiting.take(0)[0] for _ in range(4)] == [[first], [default], [beyond], [third]]


def test_a_batch_is_filled_up_with_requests_of_lower_priority() -> None:
    waiting = queue(levels(), max_rows=3)
    low, high = pushed(waiting, work(priority=3), work(priority=1))
    assert waiting.take(0)[0] == [high, low]


def test_the_background_runs_when_no_call_of_a_client_waits_and_is_not_bounded_with_them() -> None:
    waiting = queue(most=1)
    background = pushed(waiting, *(work(background=True) for _ in range(3)))
    (call,) = pushed(waiting, work())
    assert waiting.take(0)[0] == [call]
    assert waiting.take(0)[0] == background


def test_a_request_past_its_timeout_is_refused_and_frees_its_place() -> None:
    policy = QueuePolicy(default_timeout_us=100)
    waiting = queue(DynamicBatching(default_policy=policy), most=2)
    late, in_time = pushed(waiting, work(2))[0], work()
    batch, refused = waiting.take(100 * US)
    assert batch == []
    ((found, error),) = refused
    assert (found, isinstance(error, Overloaded), error.reason if isinstance(error, Overloaded) else "") == (
        late,
        True,
        "TIMEOUT",
    )
    waiting.push(in_time, 150 * US)
    assert waiting.take(160 * US) == ([in_time], [])


def test_a_delayed_request_runs_after_those_that_are_in_time() -> None:
    policy = QueuePolicy(default_timeout_us=100, delay=True)
    waiting = queue(DynamicBatching(default_policy=policy), max_rows=1)
    (late,) = pushed(waiting, work())
    fresh = pushed(waiting, work(), work(), now_ns=90 * US)
    assert [waiting.take(120 * US) for _ in range(3)] == [([fresh[0]], []), ([fresh[1]], []), ([late], [])]
    assert len(waiting) == 0


@pytest.mark.parametrize(
    ("override", "asked_us", "expires_us"), [(True, 50, 50), (True, 500, 100), (True, 0, 100), (False, 50, 100)]
)
def test_a_request_may_shorten_its_timeout_where_the_model_allows_that(
    override: bool, asked_us: int, expires_us: int
) -> None:
    policy = QueuePolicy(default_timeout_us=100, allow_timeout_override=override)
    waiting = queue(DynamicBatching(default_policy=policy))
    (one,) = pushed(waiting, work(timeout_us=asked_us), now_ns=7)
    assert one.expires_ns == 7 + expires_us * US


def test_a_timeout_of_a_request_is_ignored_without_a_policy_that_allows_it() -> None:
    waiting = queue()
    (one,) = pushed(waiting, work(timeout_us=1))
    assert waiting.take(10**12) == ([one], [])


def test_the_bound_of_images_refuses_what_would_go_beyond_it() -> None:
    waiting = queue(most=4)
    pushed(waiting, work(3))
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        waiting.push(work(2), 0)
    pushed(waiting, work(1))
    assert len(waiting) == 2
    waiting.take(0)
    pushed(waiting, work(4))


def test_a_single_request_larger_than_the_bound_is_taken_when_nothing_waits() -> None:
    waiting = queue(most=2)
    (large,) = pushed(waiting, work(4))
    assert waiting.take(0)[0] == [large]


def test_a_level_has_its_own_bound_of_requests() -> None:
    waiting = queue(levels(priority_policies={3: QueuePolicy(max_queue_size=1)}))
    pushed(waiting, work(priority=3), work(priority=1), work(priority=1))
    with pytest.raises(Overloaded, match="maximum queue size of 1 for model 'm'"):
        waiting.push(work(priority=3), 0)


def test_a_cancelled_request_does_not_run_is_told_so_and_frees_its_place() -> None:
    waiting = queue(most=2)
    one, two = pushed(waiting, work(), work())
    one.cancelled = True
    batch, refused = waiting.take(0)
    assert batch == [two]
    assert [(found, str(error)) for found, error in refused] == [(one, "The request was cancelled before it ran.")]
    pushed(waiting, work(2))


def test_draining_takes_everything_out_by_priority() -> None:
    waiting = queue(levels())
    background, low, high = pushed(waiting, work(background=True), work(priority=3), work(priority=1))
    assert waiting.drain() == [high, low, background]
    assert (len(waiting), waiting.take(0)) == (0, ([], []))
    assert waiting.wake_ns() == 0
