"""What the measurement of kills counts: whose kill took an answer, how old it was, and who answers afterwards."""

from __future__ import annotations

from tests.bench.serving import kill
from tests.bench.serving.marked import Account, Call
from tests.bench.serving.servers import IRISLOOP

CLEAN = Account(2, 2, 2, (), 0, 0, 0)


def call(client: int, number: int, end: float = 1.0, error: str = "", version: str = "1") -> Call:
    return Call(client, number, end - 0.01, end, version, error)


def test_missing_answers_are_dated_from_the_kill_that_took_them() -> None:
    kills = [kill.Kill(10.0, 12.0, (), 2), kill.Kill(20.0, 23.0, ("gate 2",), 0)]
    missing = (call(0, 0, end=9.95), call(0, 1, end=10.001), call(0, 2, end=19.8))
    found = kill.outcome(IRISLOOP, kills, [], Account(5, 2, 2, missing, 0, 0, 0), 0)
    assert (found.ready_s, found.missing, found.counted) == ([2.0, 3.0], [2, 1], [2, 0])
    assert found.oldest_ms == [50.0, 200.0]
    assert list(found.aims().values()) == [True, False, False, False, True, True]


def test_a_call_that_failed_between_a_kill_and_readiness_is_the_kills() -> None:
    calls = [call(0, 0, end=11.0, error="UNAVAILABLE"), call(0, 1, end=15.0, error="UNAVAILABLE")]
    found = kill.outcome(IRISLOOP, [kill.Kill(10.0, 12.0, (), 0)], calls, CLEAN, 0)
    assert found.failed_while_ready == 1


def test_an_answer_after_readiness_must_be_the_champions_of_that_moment() -> None:
    history = [(1.0, model, "1") for model in kill.MODELS] + [(2.0, "gate", "2"), (9.0, "gate", "3")]
    kills = [kill.Kill(3.0, 5.0, (), 0)]
    calls = [call(0, 0, end=6.0, version="1"), call(0, 1, end=7.0, version="2"), call(1, 0, end=7.0, version="1")]
    assert kill.wrong_answers([*calls, call(0, 2, end=9.5, version="1")], history, kills) == 1
