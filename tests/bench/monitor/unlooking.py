"""Three that never look, on every table: never, always, and by the clock. What they pass, a table does not tell; each
of them has to fail a line of each table, or the table could be won without a monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.monitor.domain.events import Alert, Cause, Harm, Incident, Scope, Shape, State
from tests.bench.monitor import concepts, fleet, labels, shifts
from tests.bench.monitor.figures import Median, poisson_upper, table
from tests.bench.monitor.null import ALARM_AIM, CONFIRMED_AIM
from tests.bench.monitor.streams import QUIET
from tests.unit.monitor.fleets import Fleet

OURS: Final = "Irisloop"
PERIOD: Final = 1_000
"""Frames or labels between two alarms of the clock; of a fleet it is a week."""
EXPOSURE: Final = 6_000_000
"""Frames without a change that the rates are said of."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Alarms at these frames or labels of a run, and at these of a month's quarters of an hour."""

    name: str
    alarms: Callable[[int], Sequence[int]]
    incidents: Callable[[int], Sequence[int]]

    def after(self, onset: int, length: int) -> int | None:
        """Frames from `onset` to the first alarm after it."""
        return next((n + 1 - onset for n in self.alarms(onset + length) if n >= onset), None)

    def rate(self, length: int = EXPOSURE) -> float:
        """The upper 95 % bound of alarms a frame."""
        count = len(self.alarms(length))
        return (poisson_upper(count) if count < 100 else float(count)) / length


POLICIES: Final = (
    Policy("never", lambda length: (), lambda length: ()),
    Policy("always", range, lambda length: (0,)),
    Policy(
        "by the clock",
        lambda length: range(PERIOD // 2, length, PERIOD),
        lambda length: range(7 * fleet.DAY, length, 7 * fleet.DAY),
    ),
)


@dataclass(frozen=True, slots=True)
class Line:
    """An aim of a table, and what everybody has that was measured: None is a change that was not found."""

    table: str
    what: str
    aim: float
    values: Mapping[str, float | None]
    at_least: bool = False

    def reached(self, who: str) -> bool:
        """Whether the aim is."""
        value = self.values.get(who)
        return value is not None and (value >= self.aim if self.at_least else value <= self.aim)


def channel_lines(null: Mapping[str, Any], delays: Mapping[str, Any]) -> list[Line]:
    """Cameras: false alarms, and delays."""
    quiet = [null[noise.name] for noise in QUIET if noise.name in null]
    watched = sum(row["watched"] for row in quiet)

    def rates(state: str, frames: float) -> dict[str, float | None]:
        ours = {OURS: poisson_upper(sum(row[state] for row in quiet)) / watched} if watched else {}
        return {who: frames * rate for who, rate in {**ours, **{one.name: one.rate() for one in POLICIES}}.items()}

    found = [
        Line("cameras", "ALARM in 100k frames, at most", ALARM_AIM * 1e5, rates("alarm", 1e5)),
        Line("cameras", "CONFIRMED in 2M, at most", CONFIRMED_AIM * 2e6, rates("confirmed", 2e6)),
    ]
    for case in shifts.CASES:
        if case.aim is not None and case.noise.rho == 0.0:
            what = f"{case.until.name}, {case.shift:g} sigma, after {case.onset:,} frames"
            onsets = [case.onset + seed % 40 for seed in range(40)]
            row = next((r for r in delays.get("shifts", ()) if (r["stream"], r["onset"], r["aim"]) == _key(case)), None)
            ours = {OURS: Median.of(row["delays"]).value} if row is not None else {}
            medians = {one.name: Median.of([one.after(o, 4_000) for o in onsets]).value for one in POLICIES}
            found.append(Line("cameras", what, case.aim, {**ours, **medians}))
    return found


def _key(case: shifts.Case) -> tuple[str, int, int | None]:
    return case.noise.name, case.onset, case.aim


def label_lines(delays: Mapping[str, Any]) -> list[Line]:
    """The labelled error: false alarms, and delays."""
    null = {OURS: delays["label_null"]["per_10k"]} if "label_null" in delays else {}
    measured = {r["error"]: {OURS: Median.of(r["delays"]).value} for r in delays.get("labels", ())}
    rates = {one.name: 1e4 * len(one.alarms(60_000)) / 60_000 for one in POLICIES}
    found = [Line("labels", "false in 10k labels", 1.0, {**null, **rates})]
    for after, aim in labels.AFTER.items():
        medians = {one.name: one.after(labels.WARM_UP, labels.CAP) for one in POLICIES}
        found.append(Line("labels", f".1 to {after:g}, labels", aim, {**measured.get(after, {}), **medians}))
    return found


def concept_lines(delays: Mapping[str, Any]) -> list[Line]:
    """Streams: how many of seven are heard as fast as by the fastest of River's, and silence where there is no harm."""
    rows = [r for r in delays.get("concepts", ()) if r["stream"] != concepts.HARMLESS]
    if not rows:
        return []
    fast: dict[str, float | None] = {OURS: sum(_as_fast(row) for row in rows)}
    for one in POLICIES:
        late = one.after(concepts.QUIET, concepts.AFTER)
        fast[one.name] = sum(
            _as_fast({"delays": {**row["delays"], concepts.OURS: [late] * len(row["delays"][concepts.OURS])}})
            for row in rows
        )
    silent: dict[str, float | None] = {}
    if harmless := delays.get("harmless"):
        silent[OURS] = 1.0 - harmless["asked"] / harmless["seeds"]
    for one in POLICIES:
        silent[one.name] = float(one.after(concepts.QUIET, concepts.AFTER) is None)
    return [
        Line("concepts", "of 7 as fast as the fastest of River's", 5.0, fast, at_least=True),
        Line("concepts", f"{concepts.HARMLESS}: nothing asked, share of seeds", 0.9, silent, at_least=True),
    ]


def _as_fast(row: Mapping[str, Any]) -> bool:
    less = concepts.fastest(row)[1]
    return less.high is not None and less.high <= 0.0


def fleet_lines(known: Mapping[str, Any]) -> list[Line]:
    """Incidents: how many a cause, whether their scope is right, and false pages, in one month."""
    months = {one.name: [_month(one)] for one in POLICIES} | {OURS: known.get("months", [])}
    said = {who: fleet.summary(found) for who, found in months.items() if found}

    def of(name: str) -> dict[str, float | None]:
        return {who: float(summary[name]) for who, summary in said.items()}

    return [
        Line("fleet", "incidents a true cause", fleet.INCIDENTS_AIM, of("incidents_a_cause")),
        Line("fleet", "right scopes, share", fleet.SCOPE_AIM, of("scope_right"), at_least=True),
        Line("fleet", "false pages a week", fleet.PAGES_AIM, of("false_pages_a_week")),
    ]


def _month(policy: Policy) -> dict[str, Any]:
    """A month in which the policy opens incidents of the whole model, and wakes somebody for each."""
    world, causes = fleet.month(0)
    incidents = [_incident(world, number) for number in policy.incidents(world.frames)]
    pages = [Alert(i.detected_at, "", f"page-{i.id}", "m", i.id, "page", "", "opened") for i in incidents]
    return fleet.score(world, causes, incidents, pages, len(incidents))


def _incident(world: Fleet, frame: int) -> Incident:
    at = world.time(frame)
    cameras = tuple(f"camera-{n}" for n in range(world.cameras))
    return Incident(
        f"{frame}", "m", "1", State.ALARM, Cause.SCENE, Harm.UNKNOWN, Shape.UNKNOWN, at, at, 0.0, cameras, (), (), None,
        0.0, "", scope=Scope("model", ""),
    )  # fmt: skip


def lines(null: Mapping[str, Any], delays: Mapping[str, Any], months: Mapping[str, Any]) -> list[Line]:
    """All tables'; those of concepts only where River's were measured."""
    return [*channel_lines(null, delays), *label_lines(delays), *concept_lines(delays), *fleet_lines(months)]


def report(found: Sequence[Line]) -> str:
    """As docs/benchmarks.md shows it; what is missed is said."""
    who = (OURS, *(one.name for one in POLICIES))
    body = [
        (one.table, one.what, f"{'>=' if one.at_least else '<='} {one.aim:g}", *(_cell(one, name) for name in who))
        for one in found
    ]
    return table(("Table", "Line", "aim", *who), body)


def _cell(line: Line, who: str) -> str:
    if who not in line.values:
        return "not measured"
    value = line.values[who]
    return f"{'not found' if value is None else format(value, ',.3g')}{'' if line.reached(who) else ', missed'}"
