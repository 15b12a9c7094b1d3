"""What answers given again say: how often the verdict is wrong, how soon it is right, and who is named."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from services.monitor.domain.probe import Reading, Rules, read
from services.monitor.domain.probe_events import ProbeVerdict
from services.monitor.domain.probe_evidence import Changes, chance_of_less, chance_of_more, exceeds, stands
from tests.unit.monitor.rereadings import PEOPLE, SUSPECTED, Rate, answers, reread, swapped, watched

USUAL, ERROR = 0.1, 0.05


def rules(*, complete: bool = True) -> Rules:
    return Rules(SUSPECTED, USUAL, ERROR, complete)


def verdicts(rate: Rate, runs: int, seed: int, **options: object) -> tuple[Counter[ProbeVerdict], list[int], list[str]]:
    rng = np.random.default_rng(seed)
    found = [watched(answers(rng, rate, **options), USUAL, ERROR) for _ in range(runs)]  # type: ignore[arg-type]
    return (
        Counter(reading.verdict for reading, _ in found),
        [count for reading, count in found if reading.verdict is ProbeVerdict.MOVED],
        [reading.annotator for reading, _ in found],
    )


@pytest.mark.parametrize("usual", [0.02, 0.1, 0.3])
def test_people_who_differ_as_often_as_ever_move_no_concept(usual: float) -> None:
    """Also where they differ more often than the policy says: the other classes tell."""
    found, _, named = verdicts(lambda who, name: usual, 300, 1)
    assert found[ProbeVerdict.MOVED] <= 300 * ERROR
    assert sum(map(bool, named)) <= 300 * ERROR


def test_classes_that_are_harder_than_others_move_no_concept() -> None:
    found, _, _ = verdicts(lambda who, name: 0.1 if name in SUSPECTED else 0.0, 300, 2)
    assert found[ProbeVerdict.MOVED] <= 300 * ERROR
    assert found[ProbeVerdict.STANDS] >= 270


def test_classes_that_change_places_are_found_within_thirty_answers() -> None:
    found, counts, named = verdicts(swapped, 200, 3)
    assert found[ProbeVerdict.MOVED] >= 190
    assert found[ProbeVerdict.STANDS] == 0
    assert np.median(counts) <= 24
    assert sum(map(bool, named)) <= 200 * ERROR


def test_the_only_annotator_there_is_is_believed_once_all_answers_are_in() -> None:
    found, counts, _ = verdicts(swapped, 50, 4, people=("ann",))
    assert found[ProbeVerdict.MOVED] == 50
    assert set(counts) == {30}


def test_what_one_of_several_annotators_says_alone_moves_no_concept() -> None:
    rng = np.random.default_rng(12)
    given = answers(rng, swapped, people=("ben",))
    assert read(given, Rules(SUSPECTED, USUAL, ERROR, complete=True, alone=False)).verdict is ProbeVerdict.ASKED
    assert read(given, Rules(SUSPECTED, USUAL, ERROR, complete=True, alone=True)).verdict is ProbeVerdict.MOVED


def test_one_annotator_of_three_who_answers_otherwise_is_named_and_not_the_concept() -> None:
    found, _, named = verdicts(lambda who, name: 0.95 if who == "ben" else 0.03, 200, 5)
    assert found[ProbeVerdict.MOVED] <= 200 * ERROR
    assert found[ProbeVerdict.STANDS] >= 150
    assert Counter(named)["ben"] >= 150
    assert set(named) <= {"ben", ""}


def test_one_annotator_who_reads_the_suspected_classes_otherwise_is_not_the_concept() -> None:
    found, _, named = verdicts(lambda who, name: 0.95 if who == "ben" and name in SUSPECTED else 0.03, 200, 6)
    assert found[ProbeVerdict.MOVED] <= 200 * ERROR
    assert set(named) <= {"ben", ""}


def test_where_a_concept_moved_and_one_annotator_is_wrong_everywhere_nothing_false_is_said() -> None:
    """Thirty answers do not always tell the two apart: then labels decide alone."""
    found, _, named = verdicts(lambda who, name: 0.95 if who == "ben" else swapped(who, name), 200, 7)
    assert found[ProbeVerdict.STANDS] == 0
    assert set(named) <= {"ben", ""}


def test_of_two_suspected_classes_the_one_whose_answers_stand_is_told() -> None:
    rng = np.random.default_rng(8)
    given = answers(rng, lambda who, name: 0.97 if name == "coat" else 0.02, 60)
    found = read(given, rules())
    assert found.standing == ("shirt",)


def test_without_other_classes_the_policy_speaks_alone_once_all_answers_are_in() -> None:
    given = [reread(n, "coat", PEOPLE[n % 3], changed=n % 10 != 0) for n in range(20)]
    assert read(given, rules(complete=False)).verdict is ProbeVerdict.ASKED
    assert read(given, rules()).verdict is ProbeVerdict.MOVED


def test_no_answers_say_nothing() -> None:
    assert read([], rules()) == Reading(ProbeVerdict.ASKED, Changes(), Changes())


@pytest.mark.parametrize(("about", "others"), [((0, 0), (0, 0)), ((1, 20), (0, 10)), ((5, 10), (5, 10))])
def test_evidence_is_none_where_nothing_speaks_for_it(about: tuple[int, int], others: tuple[int, int]) -> None:
    assert exceeds(Changes(*about), Changes(*others), USUAL) <= 1e-12


def test_the_evidence_is_a_ratio_of_likelihoods_worked_out_by_hand() -> None:
    # Two of two changed, none of one: (2/3 (1 - 1/8) 2) by (9 / 10) over the pooled (2/3)^2 (1/3).
    by_hand = 2.0 / 3.0 * (1.0 - 0.125) * 0.9 / ((2.0 / 3.0) ** 2 / 3.0)
    assert np.exp(exceeds(Changes(2, 2), Changes(0, 1), USUAL)) == pytest.approx(by_hand)
    # None of three changed: 9 / 12 over (1/2)^3.
    assert np.exp(stands(Changes(0, 3), USUAL)) == pytest.approx(9.0 / 12.0 * 8.0)


def test_the_chances_are_those_of_the_exact_tests() -> None:
    # Fisher's tea: three of four and one of four, 17 of 70 ways; binomial: 3 or 4 of 4 at a half, 5 of 16.
    assert chance_of_more(Changes(3, 4), Changes(1, 4), 0.1) == pytest.approx(17.0 / 70.0)
    assert chance_of_more(Changes(3, 4), Changes(), 0.5) == pytest.approx(5.0 / 16.0)
    assert chance_of_less(Changes(1, 4)) == pytest.approx(5.0 / 16.0)
