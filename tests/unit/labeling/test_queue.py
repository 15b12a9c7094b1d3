"""The order of the queue."""

from __future__ import annotations

from services.labeling.domain.model import Draw, Origin, State, Task
from services.labeling.domain.queue import by_priority

PLAIN: tuple[Origin, ...] = tuple(origin for origin in Origin if origin is not Origin.PROBE)


def tasks(origin: Origin, count: int) -> list[Task]:
    return [
        Task(f"{origin.name}-{n}", f"a-{n}", "gate-1", 0, State.OPEN, Draw(origin, 0.1), None, "d", "", 0)
        for n in range(count)
    ]


def test_requests_come_first_then_drift_then_random_then_uncertain() -> None:
    waiting: dict[Origin, list[Task]] = {origin: tasks(origin, 1) for origin in PLAIN}
    chosen = [task.draw.origin for task in by_priority(waiting, 4, 0)]
    assert chosen == [Origin.REQUEST, Origin.DRIFT, Origin.UNIFORM, Origin.UNCERTAINTY]


def test_every_fifth_task_is_a_random_one_over_calls_of_any_size() -> None:
    waiting = {Origin.DRIFT: tasks(Origin.DRIFT, 50), Origin.UNIFORM: tasks(Origin.UNIFORM, 50)}
    whole = [task.draw.origin for task in by_priority(waiting, 20, 0)]
    assert [place for place, origin in enumerate(whole) if origin is Origin.UNIFORM] == [4, 9, 14, 19]
    single = [by_priority(waiting, 1, handed)[0].draw.origin for handed in range(20)]
    assert single == whole


def test_the_newest_of_a_kind_comes_first_and_nothing_is_handed_out_twice() -> None:
    waiting = {Origin.REQUEST: tasks(Origin.REQUEST, 3)}
    assert [task.id for task in by_priority(waiting, 10, 0)] == ["REQUEST-0", "REQUEST-1", "REQUEST-2"]


def test_old_tasks_are_mixed_in_one_in_three_while_others_wait_and_none_is_left_out() -> None:
    waiting = {Origin.REQUEST: tasks(Origin.REQUEST, 40), Origin.UNIFORM: tasks(Origin.UNIFORM, 40)}
    waiting[Origin.PROBE] = tasks(Origin.PROBE, 5)
    chosen = [task.draw.origin for task in by_priority(waiting, 20, 0)]
    assert [place for place, origin in enumerate(chosen) if origin is Origin.PROBE] == [0, 3, 6, 12, 15]
    assert [place for place, origin in enumerate(chosen) if origin is Origin.UNIFORM] == [4, 9, 14, 19]
    alone = by_priority({Origin.PROBE: tasks(Origin.PROBE, 5)}, 20, 1)
    assert len({task.id for task in alone}) == 5
