"""A month of a fleet: how many incidents a cause makes, whether their scope is right, and how often a page is false;
and what an annotator does to it who errs.

100 cameras at five sites, a frame each quarter of an hour (96 a camera and day), 30 days: 288,000 predictions. 2 % are
drawn for a label, 30 % of those that open incidents touch; labels come three hours later from five annotators. All goes
through the monitor's engine with the shipped policy. What is true stands in `TRUTHS`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from services.monitor.domain.events import Alert, Incident, Request
from services.monitor.domain.events import Cause as Why
from services.monitor.domain.inputs import Commanded, Order
from tests.bench.monitor.figures import poisson_upper, read, table, write
from tests.unit.monitor.fleets import Cause, Channels, Fleet

DAY: Final = 96
DAYS: Final = 30
CAMERAS: Final = 100
SITES: Final = 5
INCIDENTS_AIM: Final = 1.2
SCOPE_AIM: Final = 0.9
PAGES_AIM: Final = 1.0
ANNOTATOR_SEEDS: Final = 20
_FOUND_WITHIN: Final = 4 * DAY
"""An incident that is opened so long after a cause began can still be its."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What happens from `day` on (for `days`), to whom, what the incident's scope is then, and whether it has to wake
    somebody. `who` is a site's number, a share of all cameras over all sites, `one` or `all`.
    """

    name: str
    day: float
    who: int | float | str
    scope: str
    page: bool
    days: float = 0.0
    channels: Channels = field(default_factory=dict)
    error: float = 0.1
    swapped: tuple[int, int] | None = None
    tag: tuple[str, str] | None = None
    planned: bool = False


_LIGHT: Final = {"pixels.brightness": 1.5, "pixels.red": 1.5, "pixels.green": 1.5, "pixels.blue": 1.5}
_FOG: Final = {"pixels.contrast": -2.5, "pixels.sharpness": -2.5, "pixels.brightness": 1.0, "max_probability": -1.5}
_CODEC: Final = {"pixels.sharpness": 2.0, "pixels.frame_difference": 1.5, "projections.0": 1.0}
_LENS: Final = {"pixels.sharpness": 1.5, "pixels.contrast": 1.5}
_DARK: Final = {"pixels.brightness": -1.5, "pixels.red": -1.5, "pixels.green": -1.5, "pixels.blue": -1.5}

TRUTHS: Final = (
    Truth("other lamps at a site, harmless", 6, 1, "site site-1", page=False, channels=_LIGHT),
    Truth("one camera in fog, error .1 to .5", 9, "one", "camera {}", page=True, days=5, channels=_FOG, error=0.5),
    Truth("new firmware on 30 cameras in 12 h, harmless", 12, 0.3, "firmware 2.0", page=False, channels=_CODEC,
          tag=("firmware", "2.0")),
    Truth("lenses cleaned at a site, announced", 16, 3, "site site-3", page=False, channels=_LENS, planned=True),
    Truth("one camera darker, harmless", 20, "one", "camera {}", page=False, channels=_DARK),
    Truth("two classes change places everywhere", 23, "all", "class class-2, class-7", page=True, swapped=(2, 7)),
)  # fmt: skip


def _cameras(truth: Truth, rng: np.random.Generator, fleet: Fleet) -> tuple[int, ...]:
    if truth.who == "all":
        return tuple(range(CAMERAS))
    if truth.who == "one":
        return (int(rng.integers(CAMERAS)),)
    if isinstance(truth.who, int):
        return fleet.of_site(truth.who)
    return tuple(int(c) for c in rng.permutation(CAMERAS)[: int(float(truth.who) * CAMERAS)])


def month(seed: int, days: int = DAYS) -> tuple[Fleet, list[Cause]]:
    """The fleet with everything that befalls it; single cameras and those with the new firmware differ by seed."""
    fleet = Fleet(seed, CAMERAS, SITES, days * DAY)
    rng = np.random.default_rng([11, seed])
    causes, commands = [], []
    for number, t in enumerate(TRUTHS):
        begin = int(t.day * DAY)
        end = begin + int(t.days * DAY) if t.days else 10**9
        cameras = _cameras(t, rng, fleet)
        stagger = DAY / 2 / len(cameras) if t.tag else 0.0
        causes.append(Cause(t.name, cameras, begin, end, t.channels, t.error, t.swapped, t.tag, stagger))
        if t.planned:
            since, until = fleet.time(begin - 4), fleet.time(begin + 2 * DAY)
            commands.append(
                Commanded(fleet.time(begin - DAY), f"plan-{number}", "", f"plan-{number}", Order.PLAN, "ada", t.name,
                          f"plan-{number}", since, until, labels=(("site", f"site-{t.who}"),))
            )  # fmt: skip
    fleet.causes, fleet.commands = tuple(causes), tuple(commands)
    return fleet, causes


def cause_of(incident: Incident, fleet: Fleet, causes: Sequence[Cause]) -> int | None:
    """Which truth an incident is of: begun not long before it was opened, and touching most of its cameras."""
    for number, (truth, cause) in enumerate(zip(TRUTHS, causes, strict=True)):
        since, until = fleet.time(cause.begin), fleet.time(cause.begin + _FOUND_WITHIN)
        named = {f"camera-{c}" for c in cause.cameras}
        within = sum(name in named for name in incident.cameras)
        right_kind = (incident.cause is Why.LABELS) == (truth.swapped is not None)
        if since <= incident.detected_at <= until and 2 * within > len(incident.cameras) and right_kind:
            return number
    return None


def measure(seed: int, days: int = DAYS) -> dict[str, Any]:
    """One month: what each truth made, and what nothing made."""
    fleet, causes = month(seed, days)
    fleet.run()
    alerts = [f for f in fleet.findings if isinstance(f, Alert)]
    requests = sum(isinstance(f, Request) for f in fleet.findings)
    return score(fleet, causes, fleet.incidents(), alerts, requests)


def score(
    fleet: Fleet, causes: Sequence[Cause], incidents: Sequence[Incident], alerts: Sequence[Alert], requests: int
) -> dict[str, Any]:
    """What was said in a month, held against what is true."""
    rows: list[dict[str, Any]] = [{"name": t.name, "incidents": 0, "scope": "", "right": False} for t in TRUTHS]
    whose = {i.id: cause_of(i, fleet, causes) for i in incidents}
    for incident in incidents:
        number = whose[incident.id]
        if number is not None:
            row = rows[number]
            row["incidents"] += 1
            expected = TRUTHS[number].scope.format(f"camera-{causes[number].cameras[0]}")
            if row["incidents"] == 1:
                row["scope"], row["right"] = str(incident.scope), str(incident.scope) == expected
                row["planned"] = bool(incident.plan_id)
                row["hours"] = round((incident.detected_at - fleet.time(causes[number].begin)) / 3600.0, 1)
    pages = [a for a in alerts if a.severity == "page"]
    for number, row in enumerate(rows):
        row["pages"] = sum(whose.get(a.incident_id) == number for a in pages)
        row["notices"] = sum(whose.get(a.incident_id) == number for a in alerts)
    return {
        "seed": fleet.seed,
        "days": fleet.frames // DAY,
        "predictions": fleet.frames * fleet.cameras,
        "truths": rows,
        "without_cause": [str(i.scope) for i in incidents if whose[i.id] is None],
        "false_pages": sum(not _wanted(whose.get(a.incident_id)) for a in pages),
        "requests": requests,
    }


def _wanted(number: int | None) -> bool:
    return number is not None and TRUTHS[number].page


def annotator(seed: int, wrong: float = 0.3) -> dict[str, Any]:
    """Twenty cameras for fifteen days, a tenth of the frames labelled; from the fifth day on one of five annotators
    answers wrongly in 30 %.
    """
    fleet = Fleet(1000 + seed, 20, SITES, 15 * DAY, labelled=0.1, wrong={2: wrong}, wrong_from=5 * DAY)
    fleet.run()
    scopes = [str(i.scope) for i in fleet.incidents()]
    return {
        "seed": seed,
        "retrains": sum(isinstance(f, Request) for f in fleet.findings),
        "pages": sum(isinstance(f, Alert) and f.severity == "page" for f in fleet.findings),
        "named": "annotator annotator-2" in scopes,
        "incidents": scopes,
    }


def summary(months: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures that have an aim."""
    causes = [row for m in months for row in m["truths"] if not _of(row["name"]).planned]
    incidents = sum(row["incidents"] for row in causes) + sum(len(m["without_cause"]) for m in months)
    found = [row for m in months for row in m["truths"] if row["incidents"]]
    weeks = sum(m["days"] for m in months) / 7.0
    false = sum(m["false_pages"] for m in months)
    return {
        "incidents_a_cause": incidents / max(len(causes), 1),
        "found": sum(bool(row["incidents"]) for row in causes) / max(len(causes), 1),
        "scope_right": sum(row["right"] for row in found) / max(len(found), 1),
        "false_pages_a_week": false / weeks,
        "false_pages_a_week_upper": poisson_upper(false) / weeks,
        "weeks": weeks,
    }


def _of(name: str) -> Truth:
    return next(t for t in TRUTHS if t.name == name)


def report(known: Mapping[str, Any]) -> str:
    """As docs/benchmarks.md shows it."""
    months = known.get("months", [])
    lines = []
    if months:
        head = ("What happened", "true scope", "incidents", "scope right", "opened after, h", "notices", "pages", "aim")
        lines.append(table(head, [_truth_row(number, months) for number in range(len(TRUTHS))]))
        s = summary(months)
        lines.append(
            table(
                ("Over all", "measured", "aim"),
                [
                    ("months", len(months), ""),
                    ("incidents a true cause, those without one counted", f"{s['incidents_a_cause']:.2f}", "<= 1.2"),
                    ("causes found", f"{s['found']:.0%}", ""),
                    ("incidents with the right scope", f"{s['scope_right']:.0%}", ">= 90 %"),
                    ("false pages a week", f"{s['false_pages_a_week']:.2f}", "<= 1"),
                    ("... at most (95 %)", f"{s['false_pages_a_week_upper']:.2f}", ""),
                ],
            )
        )
    if found := known.get("annotator"):
        seeds = len(found)
        lines.append(
            table(
                ("One annotator of five, 30 % wrong", "measured", "aim"),
                [
                    ("seeds", seeds, 20),
                    ("retrainings asked for", sum(r["retrains"] for r in found), 0),
                    ("pages", sum(r["pages"] for r in found), 0),
                    ("runs in which the annotator was named", sum(r["named"] for r in found), ""),
                ],
            )
        )
    return "\n".join(lines)


def _truth_row(number: int, months: Sequence[Mapping[str, Any]]) -> tuple[object, ...]:
    truth, rows = TRUTHS[number], [m["truths"][number] for m in months]
    hours = sorted(row["hours"] for row in rows if "hours" in row)
    counts = ", ".join(str(row["incidents"]) for row in rows)
    right = f"{sum(row['right'] for row in rows)} of {len(rows)}"
    middle = f"{hours[len(hours) // 2]:.0f}" if hours else "not found"
    notices = f"{sum(row['notices'] for row in rows) / len(rows):.1f}"
    pages = sum(row["pages"] for row in rows)
    aim = "no notice" if truth.planned else "page" if truth.page else "no page"
    return truth.name, truth.scope.format("N"), counts, right, middle, notices, pages, aim


def main(scale: int, seeds: int) -> None:
    """Measure `seeds` months and the annotator, say, write."""
    months = []
    for seed in range(seeds if scale == 1 else 1):
        months.append(measure(seed))
        write("monitor-fleet", {"months": months})
        sys.stderr.write(f"{months[-1]}\n")
    found = [annotator(seed) for seed in range(max(ANNOTATOR_SEEDS // scale, 1))]
    write("monitor-fleet", {"annotator": found})
    sys.stderr.write(f"{found}\n")
    sys.stdout.write(report(read("monitor-fleet")))
