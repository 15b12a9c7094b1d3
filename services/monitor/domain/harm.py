"""Whether an incident hurts, as far as people's labels tell, and which classes and cameras it concerns."""

from __future__ import annotations

from services.monitor.domain import risk
from services.monitor.domain.case import Case
from services.monitor.domain.events import Cause, Harm, Scope, State
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.fleet.suspicion import date_labels, doubt
from services.monitor.domain.ground import Ground
from services.monitor.domain.inputs import UNIFORM
from services.monitor.domain.labels import Joined, Pair, affected_pairs, swapped_pairs
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.probe_events import ProbeVerdict
from services.monitor.domain.probing import awaited, take_as_inputs
from services.monitor.domain.risk import Count

_MORE = 1.25
_HELD = 20  # Verdicts of a model that are held to their labels, the newest ones.
_TELLING = 3  # So many labels more on one side decide: the odds are some hundred to one.
_PRIOR = 20.0  # Labels' worth that a class is believed to be as often wrong as all are.


def counts(watch: ModelWatch, case: Case) -> tuple[Count, list[Joined], list[Joined]]:
    """Labels before the drift, since it began, and since it is level; only such as estimate risk."""
    named, until = set(case.cameras), baseline_until(watch, case)
    fresh_only = case.cause is Cause.LABELS  # Labels that raised the alarm cannot confirm it.
    before = watch.book.before(case.version, 0.0, until, watch.doubted)
    since = watch.book.choose(
        lambda e: (
            e.version == case.version
            and e.captured_at >= case.began_at
            and e.camera_id in named
            and e.annotator not in watch.doubted
            and (not fresh_only or e.given_at > case.detected_at)
        )
    )
    level = case.began_at if fresh_only else case.level_since
    settled = [e for e in since if level and e.captured_at >= level]
    return watch.labels.report.plus(before), since, settled


def baseline_until(watch: ModelWatch, case: Case) -> float:
    """Capture time before which labels tell of the error before the change."""
    return min(case.began_at, watch.anchor) if watch.anchor else case.began_at


def read_labels(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> None:
    """Take what labels tell by now: harm, the classes and the cameras."""
    found = _harm(watch, case, policy)
    if found is Harm.CROSSED and case.harm is not Harm.CROSSED and doubt(watch, case, board, now):
        found = _harm(watch, case, policy)
    if case.harm is not Harm.CROSSED:
        labels = case.risk.current_labels if case.risk else 0.0
        case.harm = _insist(case, found, labels)
        if case.harm is not Harm.UNKNOWN:
            hold(watch, case)
    if case.harm is not Harm.CROSSED:
        return
    if case.state is not State.CONFIRMED:
        _confirm(watch, case, now, policy)
    if case.class_names and not case.requested:
        _narrow(watch, case)


def _harm(watch: ModelWatch, case: Case, policy: Policy) -> Harm:
    counted = before, since, settled = counts(watch, case)
    now, level = Count.of(e.cost for e in since), Count.of(e.cost for e in settled)
    case.risk = risk.evidence(before, now) if now.labels else None
    case.undecidable = risk.undecidable(before, level, policy.harm)
    return Harm.CROSSED if case.harm is Harm.CROSSED else by_labels(watch, case, counted, policy)


def by_labels(watch: ModelWatch, case: Case, counted: tuple[Count, list[Joined], list[Joined]], policy: Policy) -> Harm:
    """What all labels that there are by now, as `counts` gives them, say of an incident."""
    before, since, settled = counted
    now, level = Count.of(e.cost for e in since), Count.of(e.cost for e in settled)
    if _focused(watch, case, since, policy):
        return Harm.CROSSED
    if watch.anchor and _worse_than_lately(watch, case, (now, level), policy):
        return Harm.CROSSED
    return risk.verdict(before, now, level, policy.harm)


def hold(watch: ModelWatch, case: Case) -> None:
    """Remember what the verdict on an incident rests on."""
    labels = case.cause is Cause.LABELS
    names = {name for pair in watch.labels.suspects() for name in pair} if labels else set()
    ground = Ground(
        incident_id=case.id,
        version=case.version,
        harm=case.harm,
        number=watch.book.count,
        until=baseline_until(watch, case),
        began=case.began_at,
        level=case.began_at if labels else case.level_since,
        told=case.detected_at if labels else 0.0,
        cameras=tuple(case.cameras),
        doubted=tuple(watch.doubted),
        names=tuple(sorted(names)),
        lately=watch.anchor,
    )
    prior = Count(_PRIOR * watch.labels.baseline().error, _PRIOR)
    known = watch.labels.report.plus(watch.book.forgotten(case.version, ground.until))
    ground.counts = [known, Count(), Count(), prior, Count(), Count()]
    for entry in watch.book.choose(lambda e: e.version == case.version):
        ground.add(entry)
    watch.grounds.pop(case.id, None)
    watch.grounds[case.id] = ground
    while len(watch.grounds) > _HELD:
        del watch.grounds[next(iter(watch.grounds))]


def _worse_than_lately(watch: ModelWatch, case: Case, after: tuple[Count, Count], policy: Policy) -> bool:
    """Whether the error rose surely above that since a change whose harm could not be decided: of the one before that
    there may be few labels, and it was no higher.
    """
    lately = watch.book.before(case.version, watch.anchor, case.began_at, watch.doubted)
    return any(risk.crossed(lately, labels, policy.harm, policy.harm.labels_min) for labels in after)


def _confirm(watch: ModelWatch, case: Case, now: float, policy: Policy) -> None:
    """It hurts. Whatever moved in the pictures, classes that have changed places are a change of labels; of labels it
    is confirmed when people were asked about old answers, unless these stand.
    """
    told = case.probe.verdict if case.probe is not None else None
    if told is ProbeVerdict.STANDS:
        if case.cause is Cause.LABELS:
            take_as_inputs(watch, case, now)
    elif told in (None, ProbeVerdict.UNDECIDED):
        _read_classes(watch, case)
    if awaited(case, policy.probe):
        return
    case.state = State.CONFIRMED
    rose = [f"the labelled error rose to {case.risk.current_error:.3f}"] if case.risk else []
    probed = [case.probe.why] if case.probe is not None and case.cause is Cause.LABELS else []
    case.note(now, "confirmed", why="; ".join(rose + probed))


def _read_classes(watch: ModelWatch, case: Case) -> None:
    """Whether classes have changed places, and which they are."""
    everywhere = watch.book.choose(lambda e: e.version == case.version and e.captured_at >= case.began_at)
    swapped = swapped_pairs(everywhere)
    other = any(c.cause is Cause.LABELS for c in watch.cases if c is not case)
    if swapped and case.cause is not Cause.LABELS and not other:
        case.cause, case.cameras = Cause.LABELS, sorted(watch.cameras)
    if case.cause is Cause.LABELS:
        _name_classes(watch, case, swapped)


def _insist(case: Case, found: Harm, labels: float) -> Harm:
    """Harm counts when it is still seen with a quarter more labels: looking every second finds bad luck, too."""
    if found is not Harm.CROSSED:
        case.suspected = 0.0
        return found
    case.suspected = case.suspected or labels
    return Harm.CROSSED if labels >= _MORE * case.suspected else Harm.UNKNOWN


def _focused(watch: ModelWatch, case: Case, since: list[Joined], policy: Policy) -> bool:
    """Whether a change of labels hurts where it is suspected: among predictions of the confused classes."""
    names = {name for pair in watch.labels.suspects() for name in pair} if case.cause is Cause.LABELS else set()
    if not names:
        return False
    until = baseline_until(watch, case)
    earlier = watch.book.choose(lambda e: e.version == case.version and e.captured_at < until and e.predicted in names)
    prior = Count(_PRIOR * watch.labels.baseline().error, _PRIOR)
    before = prior.plus(Count.of(e.wrong for e in earlier if e.origin == UNIFORM))
    after = Count.of(e.wrong for e in since if e.predicted in names)
    return risk.crossed(before, after, policy.harm, policy.harm.focus_min)


def _name_classes(watch: ModelWatch, case: Case, swapped: list[Pair]) -> None:
    """Which classes changed, and since when."""
    entries = watch.book.choose(lambda e: e.version == case.version and e.captured_at >= case.began_at)
    pairs = {*swapped, *(affected_pairs(entries, watch.labels) or watch.labels.alarmed_pairs())}
    names = {name for pair in pairs for name in pair}
    if names:
        date_labels(watch, case, pairs)
    case.class_names, case.level_since = sorted(names), case.began_at
    if names and case.scope.kind in ("class", "model"):
        case.scope = Scope("class", ", ".join(case.class_names))


def _agreement(watch: ModelWatch, case: Case) -> dict[str, int]:
    """Labels of the changed classes since the change, of each camera: those that agree with the model less the rest."""
    found = dict.fromkeys(case.cameras, 0)
    for entry in watch.book.choose(lambda e: e.version == case.version and e.captured_at >= case.began_at):
        if entry.camera_id in found and entry.truth in case.class_names:
            found[entry.camera_id] += -1 if entry.wrong else 1
    return found


def _narrow(watch: ModelWatch, case: Case) -> None:
    """Leave out the cameras where the classes still mean what they meant."""
    changed = [camera for camera, agree in _agreement(watch, case).items() if agree < _TELLING]
    case.cameras = changed or case.cameras


def undecided(watch: ModelWatch, case: Case) -> bool:
    """Whether it is open, for some camera, if the change of the named classes is its, too."""
    return bool(case.class_names) and any(abs(agree) < _TELLING for agree in _agreement(watch, case).values())
