"""How an incident is opened, understood, decided on and closed: once a second of event time, for each model."""

from __future__ import annotations

from collections.abc import Iterator

from services.monitor.domain import risk
from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case, block_seconds, read_cause, read_shape
from services.monitor.domain.events import UNIFORM, Alert, Cause, DriftFound, Evidence, Finding, Harm, Scope, State
from services.monitor.domain.fault import beyond_training, report, said_of
from services.monitor.domain.fleet.assess import assess
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.fleet.gather import gather
from services.monitor.domain.fleet.suspicion import date_labels, doubt, read_scope
from services.monitor.domain.labels import Joined, Pair, affected_pairs, swapped_pairs
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.retraining import Stake, ask, derive, objection, refuse, weigh
from services.monitor.domain.risk import Count

AWAITS_PERSON = "awaits_person"
_MORE = 1.25
_TELLING = 3  # So many labels more on one side decide: the odds are some hundred to one.
_NAMED = 6  # Cameras named in a sentence.
_PRIOR = 20.0  # Labels' worth that a class is believed to be as often wrong as all are.


def tick(watch: ModelWatch, board: Board, now: float, policy: Policy) -> Iterator[Finding]:
    """Whatever is to be said about a model at event time `now`."""
    watch.ledger.expire(now)
    seen = (watch.looks, watch.labels.labels, len(board.commands))
    if seen != watch.gathered:
        watch.gathered = seen
        gather(watch, board, now, policy)
        yield from assess(watch, board, now)
    for case in list(watch.cases):
        yield from _go_on(watch, case, board, now, policy)


def _go_on(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> Iterator[Finding]:
    seen = _seen_of(watch, case)
    if seen != case.understood:
        case.understood = seen
        _understand(watch, case, board, now, policy)
    yield from _say(watch, case, now, policy)
    if case.harm is Harm.CROSSED:
        yield from _decide(watch, case, now, policy)
    if not case.plan_id:
        yield from _close_if_over(watch, case, board, now, policy)


def _seen_of(watch: ModelWatch, case: Case) -> tuple[int, ...]:
    """What an understanding rests on: the cameras' blocks and states, and the labels."""
    cameras = [watch.cameras[name] for name in case.alarmed if name in watch.cameras]
    blocks = sum(c.trace.first + len(c.trace.times) + 1000 * c.trace.generation for c in cameras)
    parts = (len(cameras), blocks, sum(int(c.state) for c in cameras), watch.book.count, watch.labels.labels)
    return (*parts, int(case.cause), case.requested)


def close(watch: ModelWatch, now: float) -> Iterator[Finding]:
    """Another version has taken over: the open incidents are history."""
    for case in list(watch.cases):
        yield from close_case(watch, case, now, f"version {watch.successor} is the champion")


def _understand(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> None:
    if case.cause is not Cause.LABELS:
        _read_inputs(watch, case, policy)
    elif not case.requested:
        read_scope(watch, case, board, now)
    _read_labels(watch, case, board, now, policy)


def _read_inputs(watch: ModelWatch, case: Case, policy: Policy) -> None:
    cameras = [watch.cameras[name] for name in case.alarmed if name in watch.cameras]
    if case.state is not State.CONFIRMED:
        elsewhere = {name for other in watch.cases if other is not case for name in other.alarmed}
        watched = [c for c in watch.watched() if c.camera_id not in elsewhere]
        moving = sum(1 for c in watched if c.state >= State.WARN)
        alone = case.scope.kind in ("camera", "cameras", "firmware")
        case.cause = read_cause(case, cameras, len(watched), max(moving, len(case.cameras)), alone)
    if not case.level_since or not case.faults:
        _read_faults(case, cameras)
    if not case.requested:
        read_shape(case, cameras, policy.shape)
    evidence = [e for c in cameras for e in c.evidence(4)]
    case.evidence = sorted(evidence, key=lambda e: (-e.statistic / e.threshold, e.camera_id, e.channel))[:16]


def _read_faults(case: Case, cameras: list[CameraWatch]) -> None:
    """What is broken, anew until the change is complete: half of a change may look like another one."""
    if case.cause is not Cause.CAMERA:
        case.faults = []
        return
    found = [report(camera, case.began_at) for camera in cameras if camera.camera_id in case.cameras]
    case.faults = [fault for fault in found if fault is not None] or case.faults


def counts(watch: ModelWatch, case: Case) -> tuple[Count, list[Joined], list[Joined]]:
    """Labels before the drift, since it began, and since it is level; only such as estimate risk."""
    named, until = set(case.cameras), _baseline_until(watch, case)
    fresh_only = case.cause is Cause.LABELS  # Labels that raised the alarm cannot confirm it.
    before = watch.book.choose(
        lambda e: (
            e.version == case.version
            and e.origin == UNIFORM
            and e.captured_at < until
            and e.annotator not in watch.doubted
        )
    )
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
    return watch.labels.report.plus(Count.of(e.wrong for e in before)), since, settled


def _baseline_until(watch: ModelWatch, case: Case) -> float:
    return min(case.began_at, watch.anchor) if watch.anchor else case.began_at


def _read_labels(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> None:
    found = _harm(watch, case, policy)
    if found is Harm.CROSSED and case.harm is not Harm.CROSSED and doubt(watch, case, board, now):
        found = _harm(watch, case, policy)
    if case.harm is not Harm.CROSSED:
        labels = case.risk.current_labels if case.risk else 0.0
        case.harm = _insist(case, found, labels)
    if case.harm is not Harm.CROSSED:
        return
    if case.state is not State.CONFIRMED:
        _confirm(watch, case, now)
    if case.class_names and not case.requested:
        _narrow(watch, case)


def _harm(watch: ModelWatch, case: Case, policy: Policy) -> Harm:
    before, since, settled = counts(watch, case)
    now, level = Count.of(e.wrong for e in since), Count.of(e.wrong for e in settled)
    case.risk = risk.evidence(before, now) if now.labels else None
    case.undecidable = risk.undecidable(before, level, policy.harm)
    if case.harm is Harm.CROSSED or _focused(watch, case, since, policy):
        return Harm.CROSSED
    return risk.verdict(before, now, level, policy.harm)


def _confirm(watch: ModelWatch, case: Case, now: float) -> None:
    """It hurts. Whatever moved in the pictures, classes that have changed places are a change of labels."""
    everywhere = watch.book.choose(lambda e: e.version == case.version and e.captured_at >= case.began_at)
    swapped = swapped_pairs(everywhere)
    other = any(c.cause is Cause.LABELS for c in watch.cases if c is not case)
    if swapped and case.cause is not Cause.LABELS and not other:
        case.cause, case.cameras = Cause.LABELS, sorted(watch.cameras)
    if case.cause is Cause.LABELS:
        _name_classes(watch, case, swapped)
    case.state = State.CONFIRMED
    case.note(now, "confirmed", why=f"the labelled error rose to {case.risk.current_error:.3f}" if case.risk else "")


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
    until = _baseline_until(watch, case)
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


def _undecided(watch: ModelWatch, case: Case) -> bool:
    """Whether it is open, for some camera, if the change of the named classes is its, too."""
    return bool(case.class_names) and any(abs(agree) < _TELLING for agree in _agreement(watch, case).values())


def _say(watch: ModelWatch, case: Case, now: float, policy: Policy) -> Iterator[Finding]:
    incident = case.news()
    if incident is not None:
        watch.remember(incident)
        yield DriftFound(now, case.traceparent, incident, case.revision)
    if case.is_silent(now):
        return
    if not case.alerts and case.harm is not Harm.CROSSED and _is_settled(watch, case, now, policy):
        yield _alert(case, now, "opened", "ticket", f"{case.scope}: {case.model}'s {_what(case)} changed")
    if case.harm is Harm.CROSSED and "page" not in case.alerts:
        summary = f"{case.scope}: {case.model} is wrong more often since its {_what(case)} changed"
        yield _alert(case, now, "page", "page", summary)
    if case.broken() and case.level_since and "fault" not in case.alerts:
        yield _alert(case, now, "fault", "ticket", said_of(case.broken()))


def _is_settled(watch: ModelWatch, case: Case, now: float, policy: Policy) -> bool:
    """Whether no camera has joined for a while: each had time for two more blocks."""
    since = now - case.widened_at
    if since < policy.fleet.settle_seconds:
        return False
    return since >= 2.0 * block_seconds([watch.cameras[name] for name in case.alarmed if name in watch.cameras])


def _what(case: Case) -> str:
    if case.cause is Cause.LABELS:
        return f"classes {', '.join(case.class_names)}" if case.class_names else "labels"
    names = case.cameras[:_NAMED]
    more = f" and {len(case.cameras) - _NAMED} more" if len(case.cameras) > _NAMED else ""
    return f"cameras' picture ({', '.join(names)}{more})"


def _alert(case: Case, now: float, code: str, severity: str, summary: str) -> Alert:
    """`code` is opened, page, fault, closed, or that a person is awaited: each is told of once."""
    case.alerts.append(code)
    kind = code if code in ("opened", "closed") else "escalated"
    case.note(now, f"told ({severity})", why=summary)
    return Alert(now, case.traceparent, derive("alert", case.id, code), case.model, case.id, severity, summary, kind)


def stake(watch: ModelWatch, case: Case) -> Stake:
    """The error above the baseline and the traffic of the drifted cameras."""
    excess = case.risk.current_error - case.risk.baseline_error if case.risk else 0.0
    touched = sum(watch.cameras[name].rate() for name in case.cameras if name in watch.cameras)
    return Stake(excess, touched, watch.book.count)


def _decide(watch: ModelWatch, case: Case, now: float, policy: Policy) -> Iterator[Finding]:
    if case.requested and watch.ledger.open is not None:
        return
    if case.plan_id:
        yield from _refuse(
            watch, case, "planned", f"planned: the change was announced (plan {case.plan_id})", now, policy
        )
        return
    if now - case.detected_at < policy.shape.level_wait_seconds and (why := _unsure(watch, case)):
        yield from _refuse(watch, case, *why, now, policy)
        return
    numbers = weigh(watch.ledger, stake(watch, case), now, policy.retrain)
    no = (
        ("camera_fault", f"camera_fault: {said_of(case.broken())}")
        if beyond_training(case.broken())
        else objection(watch.ledger, numbers, now, policy.retrain)
    )
    no = no or _person(case, policy)
    if no is not None:
        yield from _refuse(watch, case, *no, now, policy)
        if no[0] == AWAITS_PERSON and AWAITS_PERSON not in case.alerts and not case.is_silent(now):
            yield _alert(case, now, AWAITS_PERSON, "ticket", _question(watch, case, now, policy))
        return
    since = case.level_since or now
    request = ask(watch.ledger, case.incident(), stake(watch, case), since, now, case.traceparent, policy.retrain)
    case.requested += 1
    watch.note(request)
    yield request


def _person(case: Case, policy: Policy) -> tuple[str, str] | None:
    """(code, sentence) while the policy wants a person's word and there is none, or it was no."""
    if case.answer is not None and not case.answer.approved:
        return "person_refused", f"person_refused: {case.answer.by}: {case.answer.reason or 'no reason given'}"
    if policy.retrain.approval and case.answer is None:
        return AWAITS_PERSON, f"{AWAITS_PERSON}: a retraining would pay; the policy leaves it to a person"
    return None


def _question(watch: ModelWatch, case: Case, now: float, policy: Policy) -> str:
    numbers = weigh(watch.ledger, stake(watch, case), now, policy.retrain)
    costs = (
        f"the harm costs {numbers.cost_of_harm:.2f} in {numbers.horizon_days:g} days, a run {numbers.cost_of_run:.2f}"
    )
    return f"{case.model}: retraining would pay ({costs}); approve or refuse it"


def _unsure(watch: ModelWatch, case: Case) -> tuple[str, str] | None:
    """(code, sentence) of what has to settle before it is known what a retraining should be made of."""
    if not case.level_since:
        return (
            "not_level",
            "not_level: the channels are not level yet; trained in the middle of a change it would not fit",
        )
    if _undecided(watch, case):
        return "not_told_apart", "not_told_apart: it is open whether the classes have changed for every camera"
    return None


def _refuse(watch: ModelWatch, case: Case, code: str, sentence: str, now: float, policy: Policy) -> Iterator[Finding]:
    if code not in case.refused:
        case.refused.append(code)
        numbers = weigh(watch.ledger, stake(watch, case), now, policy.retrain)
        refusal = refuse(case.incident(), code, sentence, now, case.traceparent, numbers)
        watch.note(refusal)
        yield refusal


def _close_if_over(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> Iterator[Finding]:
    cameras = [watch.cameras[name] for name in case.cameras if name in watch.cameras]
    numbers = f"error {case.risk.current_error:.3f} after {case.risk.baseline_error:.3f}" if case.risk else "no labels"
    if case.harm is Harm.NONE:
        yield from _refuse(watch, case, "harmless", f"harmless: {numbers}", now, policy)
        _take_as_normal(watch, case, board)
        yield from close_case(watch, case, now, f"without harm ({numbers})", tell=not case.is_silent(now))
    elif case.undecidable and not case.suspected and case.harm is Harm.UNKNOWN:
        yield from _refuse(watch, case, "undecided", f"undecided: {numbers}; more labels would not tell", now, policy)
        watch.anchor = _baseline_until(watch, case)
        _take_as_normal(watch, case, board)
        why = f"more labels would not tell whether it hurts ({numbers}); what comes is held against the error before it"
        yield from close_case(watch, case, now, why, tell=True)
    elif case.cause is not Cause.LABELS and all(c.quiet_frames >= policy.harm.clear_frames for c in cameras):
        for camera in cameras:
            camera.clear()
        yield from close_case(watch, case, now, "the channels are as before")


def _take_as_normal(watch: ModelWatch, case: Case, board: Board) -> None:
    """What a harmless change made of its cameras is normal from now on, also where it has not alarmed yet."""
    explained = watch.explained()
    for camera in watch.cameras.values():
        if explained.get(camera.camera_id, case) is not case:
            continue
        within = board.labels(camera.camera_id).get(case.scope.kind) == case.scope.value or case.scope.kind == "model"
        warned = within and camera.state >= State.WARN and case.cause is not Cause.LABELS
        if warned or (camera.state >= State.ALARM and camera.camera_id in (*case.alarmed, *case.cameras)):
            camera.relearn()


def close_case(watch: ModelWatch, case: Case, now: float, why: str, *, tell: bool = False) -> Iterator[Finding]:
    """An incident is over; `tell` of the end also when nobody was told of its begin."""
    case.state, case.closed_at = State.OK, now
    if (tell or case.alerts) and not case.is_silent(now):
        yield _alert(case, now, "closed", "ticket", f"{case.scope}: {case.model}'s {_what(case)} changed; over: {why}")
    case.note(now, "closed", why=why)
    other = any(c.cause is Cause.LABELS for c in watch.cases if c is not case)
    if case.cause is Cause.LABELS or (watch.labels.alarmed() and not other):
        watch.labels.forgive(harmless=case.harm is Harm.NONE)
    incident = case.news()
    watch.cases.remove(case)
    if incident is not None:
        watch.remember(incident)
        yield DriftFound(now, case.traceparent, incident, case.revision)


def label_evidence(watch: ModelWatch) -> Evidence | None:
    """The labelled error as one more channel."""
    detector = watch.labels.error
    if detector is None:
        return None
    recent = Count.of(o is not None for o in watch.labels.recent)
    base = watch.labels.baseline().error
    spread = max((base * (1.0 - base)) ** 0.5, 1e-6)
    return Evidence(
        "labelled_error",
        "",
        detector.name,
        float(detector.statistic()[0]),
        detector.run_length,
        base,
        recent.error,
        (recent.error - base) / spread,
    )
