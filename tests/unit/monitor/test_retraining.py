"""Every reason not to retrain, and that asking is done once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.monitor.domain.condition import Condition
from services.monitor.domain.events import Cause, Harm, Incident, Outlook, Regain, Shape, State
from services.monitor.domain.policy import RetrainPolicy
from services.monitor.domain.quiethours import QuietHours
from services.monitor.domain.retraining import DAY, Attempt, Ledger, Stake, ask, objection, refuse, weigh
from services.monitor.wire import event_of
from tests.unit.monitor.worlds import EPOCH, policy

RULES = policy().retrain
STAKE = Stake(excess=0.2, predictions_a_second=10.0)
LABELLED = replace(STAKE, labels=10_000)
INCIDENT = Incident(
    "i", "m", "1", State.CONFIRMED, Cause.SCENE, Harm.CROSSED, Shape.SUDDEN, EPOCH, EPOCH, EPOCH,
    ("c",), (), (), None, 0, "a",
)  # fmt: skip


def code(ledger: Ledger, now: float = EPOCH, stake: Stake = STAKE, rules: RetrainPolicy = RULES) -> str:
    no = objection(ledger, weigh(ledger, stake, now, rules), now, rules)
    return no[0] if no else ""


def test_nothing_speaks_against_the_first_request_that_pays() -> None:
    assert code(Ledger()) == ""


@pytest.mark.parametrize("stake", [Stake(0.2, 1e-5), Stake(-0.1, 100.0)])
def test_what_costs_less_than_a_run_does_not_pay(stake: Stake) -> None:
    assert code(Ledger(), stake=stake) == "does_not_pay"


def test_an_open_request_its_cooldown_and_the_budget_each_speak_against_another() -> None:
    ledger = Ledger()
    request = ask(ledger, INCIDENT, STAKE, EPOCH, EPOCH, "", RULES)
    assert code(ledger) == "open_request"
    assert ledger.close(request.id, EPOCH + 10, "its run succeeded")
    assert not ledger.close(request.id, EPOCH + 20, "judged")
    assert code(ledger, EPOCH + 20) == "cooldown"
    enough = replace(STAKE, labels=RULES.labels_between)
    assert code(ledger, EPOCH + 11 + RULES.cooldown_seconds) == "labels"
    assert code(ledger, EPOCH + 11 + RULES.cooldown_seconds, enough) == ""
    ledger.asked_at = [EPOCH] * RULES.budget_a_day
    assert code(ledger, EPOCH + 11 + RULES.cooldown_seconds, enough) == "budget"
    assert code(ledger, EPOCH + DAY + 1, enough) == ""


def test_the_cooldown_is_at_least_four_times_the_last_training() -> None:
    ledger = Ledger(closed_at=EPOCH, trained_seconds=RULES.cooldown_seconds)
    assert code(ledger, EPOCH + 4 * RULES.cooldown_seconds - 1, LABELLED) == "cooldown"
    assert code(ledger, EPOCH + 4 * RULES.cooldown_seconds, LABELLED) == ""


def test_a_failed_run_is_asked_for_again_only_when_new_labels_have_come() -> None:
    ledger = Ledger()
    request = ask(ledger, INCIDENT, replace(STAKE, labels=500), EPOCH, EPOCH, "", RULES)
    ledger.close(request.id, EPOCH, "its run failed: no labels")
    later = EPOCH + RULES.cooldown_seconds
    assert code(ledger, later, replace(STAKE, labels=499 + RULES.labels_between)) == "labels"
    assert code(ledger, later, replace(STAKE, labels=500 + RULES.labels_between)) == ""


def test_quiet_hours_are_kept_in_the_zone_of_the_people() -> None:
    night = replace(RULES, quiet_hours=(QuietHours(22 * 60, 6 * 60, "Europe/Berlin"),))
    summer, winter = datetime(2026, 7, 1, tzinfo=UTC).timestamp(), datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    hour = 3600.0
    asked = [code(Ledger(), day + h * hour, rules=night) for day in (summer, winter) for h in (3.9, 4.1, 4.9, 5.1)]
    assert asked == ["quiet_hours", "", "", "", "quiet_hours", "quiet_hours", "quiet_hours", ""]
    assert code(Ledger(), summer + 19.9 * hour, rules=night) == ""
    assert code(Ledger(), summer + 20.1 * hour, rules=night) == "quiet_hours"


def test_a_decision_carries_what_it_was_weighed_with() -> None:
    request = ask(Ledger(), INCIDENT, STAKE, EPOCH, EPOCH, "", RULES)
    assert request.numbers is not None
    assert request.numbers.cost_of_harm == STAKE.cost(RULES) == 0.2 * 10.0 * 7 * DAY * 0.01
    said = event_of(request).value.numbers
    assert (said.excess, said.cost_of_run, said.budget_a_day) == (0.2, RULES.cost_of_run, RULES.budget_a_day)


def test_a_request_says_what_to_expect_of_it() -> None:
    probed = Regain(Outlook.RECOVERABLE, 0.62, 0.51, 0.73, 240, "probe")
    request = ask(Ledger(), INCIDENT, replace(STAKE, regain=probed), EPOCH, EPOCH, "", RULES)
    assert request.reason.endswith("; training regains at least 62% of the loss, by a probe on 240 labels")
    said = event_of(request).value.numbers
    assert (said.regain, said.regain_low, said.regain_high) == (0.62, 0.51, 0.73)
    assert (said.regain_labels, said.regain_by) == (240, "probe")


def test_only_the_newest_attempts_are_kept() -> None:
    ledger, condition = Ledger(), Condition("1", (), {"margin": -2.0}, 0.1)
    for number in range(50):
        ledger.remember(f"r{number}", Attempt("i", condition, 0.1))
    assert list(ledger.tried) == [f"r{number}" for number in range(30, 50)]


def test_a_request_that_nobody_answers_expires() -> None:
    ledger = Ledger()
    request = ask(ledger, INCIDENT, STAKE, EPOCH, EPOCH, "", RULES)
    ledger.expire(request.expires_at - 1)
    assert ledger.open is not None
    ledger.expire(request.expires_at)
    assert [ledger.open, ledger.closed_because] == [None, "expired"]


def test_ids_follow_from_the_incident_and_the_attempt() -> None:
    first, second = Ledger(), Ledger()
    one = ask(first, INCIDENT, STAKE, EPOCH, EPOCH, "", RULES)
    assert ask(second, INCIDENT, STAKE, EPOCH + 5, EPOCH + 5, "", RULES).id == one.id
    assert ask(first, INCIDENT, STAKE, EPOCH, EPOCH, "", RULES).id != one.id
    assert ask(first, replace(INCIDENT, id="j"), STAKE, EPOCH, EPOCH, "", RULES).id != one.id
    assert refuse(INCIDENT, "budget", "", EPOCH, "").id == refuse(INCIDENT, "budget", "", EPOCH + 9, "").id
