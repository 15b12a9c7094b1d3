"""Every reason not to retrain, and that asking is done once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.monitor.domain.events import Cause, Harm, Incident, Shape, State
from services.monitor.domain.retraining import DAY, Ledger, Stake, ask, objection, refuse
from tests.unit.monitor.worlds import EPOCH, policy

RULES = policy().retrain
STAKE = Stake(excess=0.2, predictions_a_second=10.0)
INCIDENT = Incident(
    "i", "m", "1", State.CONFIRMED, Cause.SCENE, Harm.CROSSED, Shape.SUDDEN, EPOCH, EPOCH, EPOCH,
    ("c",), (), (), None, 0, "a",
)  # fmt: skip


def code(ledger: Ledger, now: float = EPOCH, stake: Stake = STAKE) -> str:
    no = objection(ledger, stake, now, RULES)
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
    assert code(ledger, EPOCH + 11 + RULES.cooldown_seconds) == ""
    ledger.asked_at = [EPOCH] * RULES.budget_a_day
    assert code(ledger, EPOCH + 11 + RULES.cooldown_seconds) == "budget"
    assert code(ledger, EPOCH + DAY + 1) == ""


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
