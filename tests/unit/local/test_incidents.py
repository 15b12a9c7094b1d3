"""Incidents on the command line: words, times and ids that are shortened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.errors import InvalidMessage
from services.local import incidents

FIRST, SECOND = "9abe9a04-01ca-5357-9e69-72625c6623b5", "9abf0000-01ca-5357-9e69-72625c6623b5"


@dataclass
class Fake:
    """A session and a stub in one: answers from a list, and keeps what was asked."""

    asked: list[Any] = field(default_factory=list)

    @asynccontextmanager
    async def stub(self, service: str, make: Callable[[Any], Any]) -> AsyncIterator[Any]:
        yield self

    def __getattr__(self, name: str) -> str:
        return name

    async def call(self, service: str, method: str, request: Any) -> Any:
        self.asked.append(request)
        if method == "ListIncidents":
            return pb.ListIncidentsResponse(incidents=[pb.Incident(id=FIRST), pb.Incident(id=SECOND)])
        if method == "GetIncident":
            return pb.GetIncidentResponse(incident=pb.Incident(id=request.id))
        return pb.PlanChangeResponse(plan_id="plan-1")


async def test_an_id_may_be_shortened_as_long_as_it_is_one() -> None:
    session: Any = Fake()
    assert await incidents.acknowledge(session, "9abe", "mine") == FIRST
    assert (session.asked[-1].id, session.asked[-1].why) == (FIRST, "mine")
    with pytest.raises(InvalidMessage, match="beginning of 2 incidents"):
        await incidents.acknowledge(session, "9ab", "mine")


async def test_a_plan_is_sent_with_its_labels_and_times() -> None:
    session: Any = Fake()
    assert (
        await incidents.plan(session, ["gate-*"], ["site=hall-2"], "2026-03-01T08:00+01:00", "2h", "lamps") == "plan-1"
    )
    (request,) = session.asked
    assert (list(request.cameras), dict(request.labels)) == (["gate-*"], {"site": "hall-2"})
    assert request.starts_at.ToDatetime(tzinfo=UTC) == datetime(2026, 3, 1, 7, tzinfo=UTC)
    left = request.ends_at.ToDatetime(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(hours=1.9) < left <= timedelta(hours=2)
    with pytest.raises(InvalidMessage, match="'hall-2' is not name=value"):
        await incidents.plan(session, [], ["hall-2"], "0s", "2h", "lamps")
    with pytest.raises(InvalidMessage, match="--ends: 'soon' is no time"):
        await incidents.plan(session, ["c"], [], "0s", "soon", "lamps")


def test_an_incident_reads_as_a_sentence() -> None:
    scope = pb.IncidentScope(kind="site", value="hall-2", inside=20, inside_touched=18, outside=80)
    one = pb.Incident(id=FIRST, state=pb.MONITOR_STATE_ALARM, scope=scope, acknowledged_by="ada", muted=True)
    assert incidents.state(one) == "ALARM, taken on by ada, muted"
    assert incidents.scope(scope) == "site hall-2"
    assert incidents.counts(scope) == " (18 of 20 inside are touched, 0 of 80 outside)"


def test_an_incident_that_waits_for_old_answers_says_so_until_they_are_there() -> None:
    one = pb.Incident(state=pb.MONITOR_STATE_ALARM, probe=pb.IncidentProbe(verdict=pb.PROBE_VERDICT_ASKED))
    assert incidents.state(one) == "ALARM, old answers awaited"
    one.probe.verdict = pb.PROBE_VERDICT_MOVED
    assert incidents.state(one) == "ALARM"
