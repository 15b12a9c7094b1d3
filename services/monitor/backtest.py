"""Recorded events through the same engine with another policy: what would have been said, beside what was.

Nothing runs and nothing is written. The engine begins with the first record and knows nothing from before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from irisloop.topics import (
    ALERT_RAISED,
    DRIFT_DETECTED,
    PROBE_REQUESTED,
    RETRAIN_DECLINED,
    RETRAIN_REQUESTED,
    RUN_FINISHED,
    TOPICS,
)

from services.common.bus import Delivery, Record, decode
from services.common.bus.replaying import Stretch
from services.monitor import wire
from services.monitor.domain.course import Course, training_seconds
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Finding, Request
from services.monitor.domain.inputs import RunEnded
from services.monitor.domain.policy import Policy
from services.monitor.errors import UnknownModel
from services.monitor.inbound.stream import INPUTS
from services.monitor.outbound.recording import Source
from services.monitor.replaying import INPUT_NAMES, Replay
from services.monitor.wire_said import finding_of

SAID: Final = (DRIFT_DETECTED, ALERT_RAISED, RETRAIN_REQUESTED, RETRAIN_DECLINED, PROBE_REQUESTED)
NAMES: Final = tuple(topic.name for topic in (*INPUTS, *SAID))
_TOPICS: Final = {topic.name: topic for topic in TOPICS}
_BATCH: Final = 500
_UNHEARD: Final = 1800.0


@dataclass(slots=True)
class Report:
    """Both courses, and what has to be known to read them."""

    recorded: Course
    replayed: Course
    policy: Policy
    training: float = 0.0
    assumed: bool = False
    begin: float = 0.0
    end: float = 0.0
    records: int = 0
    broken: int = 0
    late: int = 0
    missing: list[Stretch] = field(default_factory=list)
    only_recorded: list[str] = field(default_factory=list)
    only_replayed: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether the replay said exactly what was said, to the bit."""
        return not self.only_recorded and not self.only_replayed


@dataclass(slots=True)
class _Replayer:
    """The replay, and an answer for requests that nobody answered because they were never made."""

    replay: Replay
    training: float
    recorded: frozenset[str]

    def hear(self, batch: Sequence[Delivery[Any]]) -> list[Finding]:
        return self._answered(self.replay.hear(batch))

    def finish(self) -> list[Finding]:
        return self._answered(self.replay.finish())

    def _answered(self, said: list[Finding]) -> list[Finding]:
        made = [f for f in said if isinstance(f, Request) and f.id not in self.recorded]
        self.recorded |= {request.id for request in made}
        self.replay.assume(self._answer(request) for request in made)
        return said

    def _answer(self, request: Request) -> RunEnded:
        at = request.at + self.training
        return RunEnded(at, f"assumed-{request.id}", "", request.model, request.id, True, "", self.training)


async def backtest(
    source: Source,
    policy: Policy,
    *,
    since: float = 0.0,
    until: float = float("inf"),
    model: str = "",
    training: float = 0.0,
    begun: Callable[[int], None] = lambda total: None,
    passed: Callable[[int], None] = lambda steps: None,
) -> Report:
    """Replay everything the source holds before `until`, and report what was said from `since` on (seconds since 1970).

    `training`: how many seconds a request takes to become a version; 0: the median of the recording. Raises
    `Unavailable`, `BrokenRecording`, `UnknownModel` when there is nothing of it.
    """
    requests, ended = await _answers(source)
    report = Report(Course(since, until, model), Course(since, until, model), policy)
    report.assumed = not training and not any(e.request_id in {r.id for r in requests} for e in ended)
    report.training = training or training_seconds(requests, ended, _UNHEARD)
    words = _Words(report)
    async with source.open(NAMES) as held:
        report.missing = [one for one in held.stretches if one.begin > 0]
        replay = Replay.of(Engine.new(policy), held.stretches, until)
        replayer = _Replayer(replay, report.training, frozenset(r.id for r in requests))
        begun(held.total)
        async for batch, steps in _batches(held.records()):
            words.heard([d for d in batch if d.record.topic not in INPUT_NAMES])
            words.said(replayer.hear(batch))
            passed(steps)
    words.said(replayer.finish())
    if model and model not in replay.engine.models:
        heard = ", ".join(sorted(replay.engine.models)) or "none"
        raise UnknownModel(f"nothing recorded is of model {model!r}; heard of: {heard}", field="model")
    report.begin, report.end, report.late = replay.begin, replay.end, replay.late
    report.records, report.broken = replay.inputs, replay.broken
    words.compare()
    return report


async def _answers(source: Source) -> tuple[list[Request], list[RunEnded]]:
    """The requests that were made and the runs that ended: both topics are small."""
    requests, ended = [], []
    async with source.open([RETRAIN_REQUESTED.name, RUN_FINISHED.name]) as held:
        async for record, _ in held.records():
            delivery = decode(record, _TOPICS[record.topic])
            if record.topic == RETRAIN_REQUESTED.name:
                if isinstance(said := finding_of(delivery), Request):
                    requests.append(said)
            elif isinstance(item := wire.input_of(delivery), RunEnded):
                ended.append(item)
    return requests, ended


async def _batches(records: AsyncIterator[tuple[Record, int]]) -> AsyncIterator[tuple[list[Delivery[Any]], int]]:
    batch: list[Delivery[Any]] = []
    steps = 0
    async for record, passed in records:
        batch.append(decode(record, _TOPICS[record.topic]))
        steps += passed
        if len(batch) == _BATCH:
            yield batch, steps
            batch, steps = [], 0
    if batch:
        yield batch, steps


@dataclass(slots=True)
class _Words:
    """Gathers what was said on both sides, and compares it by id and bytes."""

    report: Report
    recorded: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    replayed: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def heard(self, deliveries: Sequence[Delivery[Any]]) -> None:
        course = self.report.recorded
        for delivery in deliveries:
            finding = finding_of(delivery)
            if finding is not None and _concerns(course, finding):
                course.take([finding])
                self.recorded[delivery.ce_id] = (delivery.record.topic, delivery.value.SerializeToString())

    def said(self, findings: Sequence[Finding]) -> None:
        course = self.report.replayed
        for finding in findings:
            event = wire.event_of(finding)
            if event.topic in SAID and _concerns(course, finding):
                course.take([finding])
                self.replayed[event.ce_id] = (event.topic.name, event.value.SerializeToString())

    def compare(self) -> None:
        left, right = set(self.recorded.items()), set(self.replayed.items())
        self.report.only_recorded = sorted(f"{topic} {ce_id}" for ce_id, (topic, _) in left - right)
        self.report.only_replayed = sorted(f"{topic} {ce_id}" for ce_id, (topic, _) in right - left)


def _concerns(course: Course, finding: Finding) -> bool:
    model = getattr(finding, "model", "") or finding.incident.model  # type: ignore[union-attr]
    return course.since <= finding.at < course.until and course.model in ("", model)


def figures(report: Report) -> dict[str, Any]:
    """The report as plain values; the same recording and policy give the same figures."""
    return {
        "from": report.begin,
        "to": report.end,
        "records": report.records,
        "broken_records": report.broken,
        "late_inputs": report.late,
        "expired": [f"{m.topic}/{m.partition}: 0-{m.begin - 1}" for m in report.missing],
        "training_seconds": report.training,
        "training_assumed": report.assumed,
        "identical": report.identical,
        "only_recorded": report.only_recorded,
        "only_replayed": report.only_replayed,
        "recorded": _course(report, report.recorded),
        "replayed": _course(report, report.replayed),
    }


def _course(report: Report, course: Course) -> dict[str, Any]:
    worth = course.worth(report.policy, report.training, min(report.end, course.until))
    saved = [w.saved for w in worth if w.saved is not None]
    delays = [f.incident.detected_at - f.incident.began_at for f in course.first.values() if f.incident.began_at]
    return {
        "incidents": len(course.incidents),
        "confirmed": course.confirmed(),
        "pages": sum(a.severity == "page" for a in course.alerts),
        "tickets": sum(a.severity != "page" for a in course.alerts),
        "requests": len(course.requests),
        "refusals": dict(sorted(_codes(course).items())),
        "mean_seconds_to_alarm": fmean(delays) if delays else None,
        "run_cost": sum(w.cost for w in worth),
        "harm_avoided": sum(w.harm_avoided for w in worth if w.harm_avoided is not None),
        "saved": sum(saved) if len(saved) == len(worth) else None,
        "alarmed": [
            {"at": f.at, "model": f.incident.model, "incident": i, "cause": course.incidents[i].cause.name.lower(),
             "harm": course.incidents[i].harm.name.lower(), "shape": course.incidents[i].shape.name.lower(),
             "cameras": list(course.incidents[i].cameras), "closed_at": course.incidents[i].closed_at}
            for i, f in course.first.items()
        ],
        "asked": [
            {"at": w.request.at, "model": w.request.model, "id": w.request.id, "incident": w.request.incident_id,
             "reason": w.request.reason, "harm_avoided": w.harm_avoided, "cost": w.cost, "saved": w.saved}
            for w in worth
        ],
    }  # fmt: skip


def _codes(course: Course) -> dict[str, int]:
    codes: dict[str, int] = {}
    for refusal in course.refusals:
        code = refusal.reason.partition(":")[0]
        codes[code] = codes.get(code, 0) + 1
    return codes
