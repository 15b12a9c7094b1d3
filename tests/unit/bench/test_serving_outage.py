"""What the measurement of an outage counts: events against calls, and rates before, meanwhile and after."""

from __future__ import annotations

from services.common.bus import Record
from services.common.bus.drafts import make_record
from tests.bench.serving import outage
from tests.bench.serving.marked import Account, Call, account, call_of, events_of, mark_of
from tests.bench.serving.servers import IRISLOOP
from tests.unit.serving.tiny import NOON

CLEAN = Account(2, 2, 2, (), 0, 0, 0)


def call(client: int, number: int, end: float = 1.0, error: str = "", version: str = "1") -> Call:
    return Call(client, number, end - 0.01, end, version, error)


def record(ce_id: str, traceparent: str) -> Record:
    headers = (("ce_id", ce_id.encode()), ("traceparent", traceparent.encode()))
    return make_record("t", 0, 0, NOON, b"k", b"v", headers)


def test_a_call_is_known_again_by_its_mark() -> None:
    assert call_of(mark_of(15, 70_000)) == (15, 70_000)
    assert len(mark_of(0, 0)) == 32
    assert int(mark_of(0, 0), 16) > 0


def test_a_call_without_an_event_is_missing_and_a_failed_one_is_not() -> None:
    calls = [call(0, 0), call(0, 1), call(0, 2, error="UNAVAILABLE")]
    found = account(calls, [("a", mark_of(0, 0))])
    assert (found.answered, found.identities, found.missing) == (2, 1, (calls[1],))
    assert (found.doubled, found.unanswered, found.disordered) == (0, 0, 0)


def test_a_repeat_bears_the_same_identity_and_a_double_another() -> None:
    repeated = account([call(0, 0)], [("a", mark_of(0, 0)), ("a", mark_of(0, 0))])
    assert (repeated.repeats, repeated.doubled) == (1, 0)
    doubled = account([call(0, 0)], [("a", mark_of(0, 0)), ("b", mark_of(0, 0))])
    assert (doubled.repeats, doubled.doubled) == (0, 1)


def test_order_is_a_clients_own_and_a_repeat_does_not_break_it() -> None:
    calls = [call(client, number) for client in (0, 1) for number in range(3)]
    marks = [(1, 0), (0, 0), (0, 1), (1, 1), (0, 0), (0, 2), (1, 2)]
    assert account(calls, [(str(one), mark_of(*one)) for one in marks]).disordered == 0
    swapped = [(1, 1), (1, 0), (0, 0)]
    assert account(calls, [(str(one), mark_of(*one)) for one in swapped]).disordered == 1


def test_an_event_of_a_call_that_failed_for_its_client_is_told_apart() -> None:
    assert account([call(0, 0, error="UNAVAILABLE")], [("a", mark_of(0, 0))]).unanswered == 1


def test_records_without_a_trace_are_not_the_clients() -> None:
    found = events_of([record("a", f"00-{mark_of(1, 2)}-00000000000000aa-01"), record("b", "")])
    assert found == [("a", mark_of(1, 2))]


def test_an_outages_rates_are_of_the_calls_that_ended_in_it() -> None:
    calls = [call(0, number, end=0.5 + number) for number in range(40)] + [call(1, 0, end=15.0, error="UNAVAILABLE")]
    found = outage.outcome(IRISLOOP, calls, CLEAN, outage.Moments(0.0, 10.0, 20.0, 40.0, 41.0), 3.0, 0)
    assert (found.before, found.during, found.after, found.failed, found.drained_s) == (1.0, 1.0, 1.0, 1, 1.0)
    assert list(found.aims().values()) == [False, True, True, True]
