"""Labels joined to predictions, and the watch over them: what it believes before it has seen enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.monitor.domain.engine import Engine
from services.monitor.domain.inputs import CHAMPION, OTHER, UNIFORM, Labelled, PredictionOf
from services.monitor.domain.labels import Joined, LabelBook, LabelWatch
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.risk import Count
from tests.unit.monitor.fleets import Fleet
from tests.unit.monitor.worlds import policy

RULES = policy().labels


def alarms(classes: int, lives: int, error: float = 0.16) -> int:
    """In how many lives of 1,000 labels the watch alarms although the error stays what the report said."""
    found, rules = 0, policy().labels
    for seed in range(lives):
        rng = np.random.default_rng([classes, seed])
        watch = LabelWatch(Count(600.0 * error, 600.0))
        for n in range(1000):
            truth = int(rng.integers(classes))
            said = truth if rng.random() >= error else (truth + int(rng.integers(1, classes))) % classes
            names = f"class-{said}", f"class-{truth}"
            watch.update(Joined(str(n), "c", n, n, 1, "1", *names, "uniform", n), rules)
        found += watch.alarmed()
    return found


@pytest.mark.parametrize("classes", [2, 3])
def test_a_few_classes_whose_error_is_known_raise_no_alarm(classes: int) -> None:
    """One life in ten may alarm (a run length of 10,000 labels), so that 5 of 8 have a chance of 1 in 2,000. With a
    prior for ten classes all lives of two classes did, and a third of those of three.
    """
    assert alarms(classes, 8) < 5


def said_of(number: int, truth: str, **more: Any) -> Labelled:
    reference = PredictionOf("m", "1", CHAMPION, "coat", 0.9)
    one = Labelled(100.0 + number, f"l{number}", "", "asset", "gate", 50.0, number, truth, UNIFORM, 0.05, (reference,))
    return replace(one, **more)


def test_a_label_that_somebody_corrects_without_a_task_still_estimates_risk() -> None:
    book = LabelBook()
    book.join(said_of(1, "coat"), "m")
    book.join(said_of(2, "boot", origin=OTHER, propensity=0.0), "m")
    (entry,) = book.choose(lambda _: True)
    assert (entry.truth, entry.wrong) == ("boot", True)


def test_a_label_taken_back_estimates_nothing_and_an_earlier_revision_does_not_return() -> None:
    book = LabelBook()
    book.join(said_of(1, "boot"), "m")
    book.join(said_of(3, "", origin=OTHER, propensity=0.0), "m")
    assert book.choose(lambda _: True) == []
    assert book.join(said_of(2, "boot"), "m") is None
    assert book.choose(lambda _: True) == []
    book.join(said_of(4, "coat"), "m")
    assert [entry.truth for entry in book.choose(lambda _: True)] == ["coat"]


def test_labels_that_are_kept_no_longer_still_tell_of_the_error_before_a_change() -> None:
    book, wrong = LabelBook(capacity=200), 0
    for n in range(1_000):
        answer = "boot" if n % 10 == 0 else "coat"
        book.join(said_of(n, answer, asset_id=f"a{n}", captured_at=float(n), origin=UNIFORM), "m")
        wrong += n < 640 and answer == "boot"
    assert len(book.entries) == 200
    found = book.before("1", 0.0, 650.0, ())
    assert (found.wrong, found.labels) == (float(wrong), 640.0)  # ten groups of 64; the eleventh reaches beyond
    whole = book.before("1", 0.0, 2_000.0, ())
    assert (whole.labels, whole.wrong) == (1_000.0, 100.0)
    assert book.before("1", 900.0, 950.0, ()).labels == 50.0
    assert book.before("2", 0.0, 2_000.0, ()).labels == 0.0


def test_what_is_remembered_of_forgotten_labels_outlives_a_restart() -> None:
    engine, snapshots = Engine.new(policy()), Snapshots()
    pieces: dict[str, bytes] = {}
    book = engine.watch("m").book = LabelBook(capacity=100)
    for n in range(700):
        book.join(said_of(n, "boot" if n % 7 == 0 else "coat", asset_id=f"a{n}", captured_at=float(n)), "m")
        if n % 50 == 0:
            pieces.update(snapshots.changed(engine))
    pieces.update(snapshots.changed(engine))
    again = Engine.new(policy())
    rebuild(again, pieces)
    assert again.models["m"].book == book and len(book.past) == 10
    assert "m@past" not in dict(snapshots.changed(engine))


def test_what_is_remembered_of_forgotten_labels_is_bounded() -> None:
    book = LabelBook(capacity=10)
    for n in range(70_000):
        book.join(said_of(n, "coat", asset_id=f"a{n}", captured_at=float(n)), "m")
    assert len(book.past) == 400


def outcomes(watch: LabelWatch, wrong: list[bool], first: int = 0) -> None:
    for n, one in enumerate(wrong, start=first):
        watch.update(Joined(str(n), "c", n, n, 1, "1", "class-1" if one else "class-0", "class-0", "uniform", n), RULES)


def test_which_labels_count_does_not_depend_on_what_they_say() -> None:
    """Were labels to count only while it is calm, stretches of luck would make the baseline too low."""
    calm, restless = LabelWatch(Count(120.0, 600.0)), LabelWatch(Count(120.0, 600.0))
    outcomes(calm, [False] * 200)
    outcomes(restless, [True, False, False] * 66 + [True, False])
    assert not restless.alarmed()
    assert calm.base.labels == restless.base.labels == 100.0
    assert restless.base.wrong == 34.0


def test_the_labels_that_wait_are_half_of_all_and_bounded() -> None:
    watch = LabelWatch(Count(60.0, 600.0))
    for count, waiting in ((30, 30), (60, 40), (200, 100), (5_000, 2_000)):
        outcomes(watch, [False] * (count - watch.labels), first=watch.labels)
        assert len(watch.recent) == waiting
    for n in range(5_000):
        watch.set_aside(Joined(str(n), "c", n, n, 1, "1", "class-1", "class-0", "uniform", n))
    assert len(watch.aside) == 2_000


def alarmed() -> LabelWatch:
    """After 400 labels with an error of .1 as before, and as many with .5 as it takes; one of an incident besides."""
    watch = LabelWatch(Count(60.0, 600.0))
    outcomes(watch, ([True] + [False] * 9) * 40)
    assert not watch.alarmed()
    while not watch.alarmed():
        outcomes(watch, [True, False], first=watch.labels)
    watch.set_aside(Joined("a", "c", 0, 0, 1, "1", "class-0", "class-0", "uniform", 0))
    return watch


def test_labels_of_an_alarm_that_proved_harmless_count_as_much_as_all_before() -> None:
    watch = alarmed()
    waiting = Count.of(o is not None for o in (*watch.recent, *watch.aside))
    assert len(watch.aside) == 3  # The label that raised it, and those after it.
    before = watch.base
    assert waiting.labels > before.labels
    watch.forgive(harmless=True)
    assert watch.base == before.plus(waiting)
    assert watch.recent == watch.aside == []
    assert not watch.alarmed()


def test_a_long_past_weighs_no_more_than_the_labels_of_an_alarm_that_proved_harmless() -> None:
    watch = alarmed()
    watch.base = Count(100.0, 1000.0)
    waiting = len(watch.recent) + len(watch.aside)
    watch.forgive(harmless=True)
    assert watch.base.labels == pytest.approx(2 * waiting)


def test_labels_of_an_alarm_that_may_be_a_change_do_not_count() -> None:
    watch = alarmed()
    before = watch.base
    watch.forgive(harmless=False)
    assert watch.base == before
    assert watch.recent == watch.aside == []


def fed(watch: LabelWatch, wrong: list[bool]) -> None:
    for n, miss in enumerate(wrong):
        watch.update(Joined(str(n), "c", n, n, 1, "1", f"class-{n % 7 if miss else 9}", "class-9", "uniform", n), RULES)


def test_in_a_fleet_an_alarm_of_labels_is_believed_as_rarely_as_one_of_cameras() -> None:
    fleet = Fleet(1, cameras=20, sites=4, frames=120, labelled=0.1)
    watch = fleet.run().models["m"]
    assert watch.labels.labels > 100
    wanted = policy().fleet.run_length
    assert watch.labels_in(wanted) == pytest.approx(wanted * watch.labels.labels / 120, rel=0.1)


def test_an_alarm_waits_for_belief_and_keeps_the_baseline_from_learning_the_change() -> None:
    watch = LabelWatch(Count(60.0, 600.0))
    while not watch.alarmed():
        fed(watch, [True, False])
    base = watch.base
    assert watch.believed(RULES.run_length, RULES) and not watch.believed(1e9, RULES)
    fed(watch, [True, False] * 60)
    assert watch.believed(1e9, RULES) and not watch.is_calm()
    assert watch.base == base


def test_an_alarm_that_was_chance_is_forgotten_once_labels_speak_against_it_and_all_of_them_count() -> None:
    watch = LabelWatch(Count(60.0, 600.0))
    while not watch.alarmed():
        fed(watch, [True, False])
    while not watch.is_calm():
        fed(watch, [False])
    assert watch.alarmed()
    watch.forget()
    assert not watch.alarmed()
    assert watch.base.labels == watch.labels and watch.recent == watch.aside == []
