"""What the tests of a trial amount to, in one word and in a sentence, and when it is said."""

from __future__ import annotations

from collections.abc import Iterator

from services.monitor.domain.challenge.trial import Trial
from services.monitor.domain.events import Judged, TestResult
from services.monitor.domain.inputs import Labelled, Seen
from services.monitor.domain.policy import ChallengePolicy

WORSE, BETTER, EQUAL, UNDECIDED = "worse", "better", "equal", "undecided"

_WHY = {
    "worse": "over {n} labelled pairs its error is {mean:+.3f} against the champion's",
    "errors": "it fails where the champion answers: {mean:+.3f} of {n} pairs",
    "disagreement": "it says something else than the champion in {mean:.3f} of {n} pairs, more than {limit:g}",
    "latency": "it is too slow in {mean:.3f} of {n} pairs, more than {limit:g}",
    "better": "over {n} labelled pairs its error is {mean:+.3f} against the champion's",
    "not_worse": "over {n} labelled pairs its error is {mean:+.3f} against the champion's, surely less than {limit:+g}",
}


def reached(trial: Trial, policy: ChallengePolicy) -> tuple[str, str]:
    """The verdict, and the name of the test behind it ("" while undecided); harm goes before merit."""
    counts = {"disagreement": trial.disagreement_counts(policy)}
    for name in ("worse", "errors", "disagreement", "latency"):
        if trial.tests[name].rejected and counts.get(name, True):
            return WORSE, name
    if trial.tests["better"].rejected:
        return BETTER, "better"
    return (EQUAL, "not_worse") if trial.tests["not_worse"].rejected else (UNDECIDED, "")


def say(trial: Trial, item: Seen | Labelled, policy: ChallengePolicy) -> Iterator[Judged]:
    """A judgement when the verdict has changed, at the first pair of another stage, and every so many pairs."""
    verdict, test = reached(trial, policy)
    before = trial.said.verdict if trial.said else UNDECIDED
    pairs = trial.said.pairs if trial.said else 0
    entered = trial.said is not None and trial.stage_pairs and trial.said.stage_since != trial.rollout.stage_since
    if entered or verdict != before or trial.pairs >= pairs + max(policy.say_every, 1):
        trial.said = judged(trial, item.at, item.traceparent, verdict, test)
        trial.changes += 1
        yield trial.said


def judged(trial: Trial, at: float, traceparent: str, verdict: str, test: str) -> Judged:
    """The judgement with all its numbers."""
    rollout = trial.rollout
    return Judged(
        at=at,
        traceparent=traceparent,
        model=rollout.model,
        champion=rollout.champion,
        challenger=rollout.challenger,
        rollout_id=rollout.id,
        verdict=verdict,
        pairs=trial.pairs,
        labelled=trial.labelled,
        mean_difference=trial.tests["worse"].mean(),
        coverage=trial.coverage(),
        reason=_reason(trial, test),
        tests=results(trial),
        stage_since=rollout.stage_since,
        stage_pairs=trial.stage_pairs,
    )


def results(trial: Trial) -> tuple[TestResult, ...]:
    """Every test as it stands."""
    return tuple(
        TestResult(t.name, t.e_value(), t.alpha, t.limit, t.mean(), t.outcomes, t.rejected)
        for t in trial.tests.values()
    )


def _reason(trial: Trial, name: str) -> str:
    if not name:
        return f"{trial.pairs} pairs and {trial.labelled} labelled ones tell neither"
    test = trial.tests[name]
    why = _WHY[name].format(n=test.outcomes, mean=test.mean(), limit=test.limit)
    e = min(test.e_value(), 1e9)
    return f"version {trial.rollout.challenger}: {why} ({name}, e-value {e:.3g}, rejects at {1 / test.alpha:g})"
