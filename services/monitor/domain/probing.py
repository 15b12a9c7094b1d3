"""A blind probe of an incident: asked for before a change of what classes mean is confirmed, heard, and acted on."""

from __future__ import annotations

from collections.abc import Iterator

from services.monitor.domain.case import Case
from services.monitor.domain.events import Cause, Harm, Scope, State
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.fleet.suspicion import ANNOTATOR, date_labels, doubt, leave_out
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy, ProbePolicy
from services.monitor.domain.probe import Probe, Reading, Rules, read
from services.monitor.domain.probe_events import ProbeEnded, ProbeRequest, ProbeVerdict, Reread
from services.monitor.domain.retraining import derive


def awaited(case: Case, policy: ProbePolicy) -> bool:
    """Whether a change of labels is not to be believed yet: old answers have to be asked for, or have not told."""
    if case.cause is not Cause.LABELS or case.plan_id or not policy.assets:
        return False
    return case.probe is None or case.probe.verdict is ProbeVerdict.ASKED


def ask(watch: ModelWatch, case: Case, board: Board, now: float, policy: ProbePolicy) -> Iterator[ProbeRequest]:
    """Ask for the old answers, once an incident of labels hurts."""
    if case.harm is not Harm.CROSSED or case.state is State.CONFIRMED or case.probe is not None:
        return
    if not awaited(case, policy):
        return
    id_, until = derive("probe", case.model, case.id), now + policy.wait_seconds
    case.probe = Probe(id_, now, until, policy.assets, tuple(case.class_names))
    if not case.class_names:
        _decide(case, ProbeVerdict.UNDECIDED, "no class stands out that old answers could be asked about", now)
        return
    cameras = tuple(_where(case, board))
    case.note(now, "probe asked", why=f"{policy.assets} old answers, most about {_names(case.probe)}")
    yield ProbeRequest(
        now, case.traceparent, id_, case.model, case.version, case.id, case.probe.class_names, cameras,
        case.began_at, policy.assets, until,
    )  # fmt: skip


def _where(case: Case, board: Board) -> list[str]:
    """The incident's cameras, within its scope."""
    kind, value = case.scope.kind, case.scope.value
    if kind == "camera" and value in case.cameras:
        return [value]
    return [name for name in case.cameras if board.labels(name).get(kind) == value] or case.cameras


def hear(item: Reread | ProbeEnded, watch: ModelWatch | None) -> None:
    """Take an answer or the end of a probe; of one that is not known, or is over, nothing is made."""
    for case in watch.cases if watch is not None else ():
        if case.probe is not None and case.probe.id == item.probe_id:
            case.probe.hear(item)


def judge(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> None:
    """Say what the answers tell, as soon as they do, and act on it: once."""
    probe = case.probe
    if probe is None or probe.verdict is not ProbeVerdict.ASKED:
        return
    complete = probe.is_complete(now)
    if probe.judged == probe.heard and not complete:
        return
    probe.judged = probe.heard
    answers = [a for a in probe.answers.values() if a.annotator_now not in watch.doubted]
    known = {e.annotator for e in watch.book.entries.values()} | {a.annotator_before for a in answers}
    alone = len(known | {a.annotator_now for a in answers}) <= 1
    reading = read(answers, Rules(probe.class_names, policy.probe.usual, policy.probe.error_rate, complete, alone))
    if reading.verdict is ProbeVerdict.ASKED and not complete:
        return
    probe.annotator = reading.annotator
    if reading.verdict is ProbeVerdict.MOVED:
        _decide(case, ProbeVerdict.MOVED, _counted(probe, reading), now)
    elif reading.verdict is ProbeVerdict.STANDS:
        _decide(case, ProbeVerdict.STANDS, _counted(probe, reading), now)
    else:
        _decide(case, ProbeVerdict.UNDECIDED, _silence(probe, reading), now)
    _blame(watch, case, board, reading, now)
    if reading.verdict is ProbeVerdict.MOVED:
        _name(watch, case, reading)


def _decide(case: Case, verdict: ProbeVerdict, why: str, now: float) -> None:
    assert case.probe is not None
    case.probe.verdict, case.probe.why, case.probe.told_at = verdict, why, now
    case.note(now, f"probe {verdict.name.lower()}", why=why)


def _name(watch: ModelWatch, case: Case, reading: Reading) -> None:
    """The classes whose old answers are other now, and since when, by the labels known by now."""
    names = [name for name in case.class_names if name not in reading.standing] or case.class_names
    case.cause = Cause.LABELS  # Whatever else moved meanwhile.
    date_labels(watch, case, {(a, b) for a in names for b in names if a < b})
    case.class_names, case.level_since = sorted(names), case.began_at
    if case.scope.kind in ("class", "model", ANNOTATOR):
        case.scope = Scope("class", ", ".join(case.class_names))


def _blame(watch: ModelWatch, case: Case, board: Board, reading: Reading, now: float) -> None:
    """Leave out whoever answers otherwise; where old answers stand and it is nobody, it is the inputs. Without
    somebody's labels the harm is counted anew, unless the classes have moved anyway.
    """
    probe, stands = case.probe, reading.verdict is ProbeVerdict.STANDS
    assert probe is not None
    if reading.annotator:
        own = [a for a in probe.answers.values() if a.annotator_now == reading.annotator]
        changed = sum(a.changed for a in own)
        scope = Scope(ANNOTATOR, reading.annotator, len(own), changed, len(probe.answers) - len(own))
        why = f"{changed} of {len(own)} old answers are other when {reading.annotator} gives them again"
        leave_out(watch, case, scope, now, why)
    elif stands and doubt(watch, case, board, now, least=0.0):
        probe.annotator = case.scope.value if case.scope.kind == ANNOTATOR else ""
    if reading.verdict is not ProbeVerdict.MOVED and max(watch.doubted.values(), default=0.0) >= probe.asked_at:
        case.harm, case.suspected = Harm.UNKNOWN, 0.0
        watch.grounds.pop(case.id, None)
    elif stands:
        take_as_inputs(watch, case, now)


def take_as_inputs(watch: ModelWatch, case: Case, now: float) -> None:
    """The classes mean what they meant, and people agree: the model errs on what it is shown."""
    case.cause, case.class_names, case.one_voice = Cause.SCENE, [], False
    if case.scope.kind in ("class", ANNOTATOR):
        case.scope = Scope("model", "")
    watch.labels.forgive(harmless=False)
    case.note(now, "cause", why="inputs, not labels: the classes mean what they meant before")


def _counted(probe: Probe, reading: Reading) -> str:
    about, others = reading.suspected, reading.others
    compared = f", {others.changed} of {others.total} about other classes" if others.total else ""
    return f"{about.changed} of {about.total} old answers about {_names(probe)} are other now{compared}"


def _silence(probe: Probe, reading: Reading) -> str:
    """Why the answers do not tell."""
    drawn = probe.ended.drawn if probe.ended is not None else probe.assets
    if probe.ended is not None and probe.ended.reason == "no_assets":
        return f"no asset of {_names(probe)} is left that was answered before the change"
    if len(probe.answers) < drawn:
        return f"{len(probe.answers)} of {drawn} old assets were answered again; {_counted(probe, reading)}"
    people = {answer.annotator_now for answer in probe.answers.values()}
    return f"{_counted(probe, reading)}: that does not tell{f', all by {people.pop()}' if len(people) == 1 else ''}"


def _names(probe: Probe) -> str:
    return ", ".join(probe.class_names)
