"""What registry does: one function for each message or call, whatever transport it came by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.registry.course import POLICY, Course, known, require_accepted
from services.registry.domain.aliases import pointed
from services.registry.domain.gates import judge, state_after
from services.registry.domain.model import (
    CHAMPION,
    NOT_MEASURED,
    Candidate,
    GateResult,
    Model,
    Rollout,
    Version,
    VersionState,
)
from services.registry.domain.policy import Policy, policy_for
from services.registry.domain.ports import Ledger, Ledgers
from services.registry.domain.rollouts import Judgement, Step
from services.registry.domain.wishes import Wish, check
from services.registry.errors import NothingToApprove, NothingUnderWay, RunRegistered

MONITOR = "monitor"
SERVING = "serving"
UNMEASURED = "registered by hand, gates not measured"


@dataclass(frozen=True, slots=True)
class Handlers:
    """Bound to a ledger, the policies and a clock (aware, UTC)."""

    ledgers: Ledgers
    policies: Sequence[Policy]
    clock: Callable[[], datetime]

    async def judge_run(self, candidate: Candidate, at: datetime) -> Version:
        """Register what a run produced, judge it, and let it go live when the policy says so; once for each run."""
        return await self.ledgers.transact(lambda ledger: self._judge_run(ledger, candidate, at))

    async def register_version(self, candidate: Candidate) -> Version:
        """Register a package by hand: no gates are measured, no alias moves, and people approve it where policy asks.

        The same package of the same run again is the same version; raises `RunRegistered` for another package.
        """
        return await self.ledgers.transact(lambda ledger: self._register(ledger, candidate, self.clock()))

    async def promote(self, model: str, version: str, *, by: str, reason: str, force: bool) -> Model:
        """Make a version champion, ending any rollout; raises `VersionRefused` or `ApprovalMissing` unless forced."""

        def work(ledger: Ledger) -> Model:
            chosen = ledger.version(model, version)
            if not force:
                require_accepted(chosen)
            words = reason or "promoted by hand"
            if chosen.state is not VersionState.ACCEPTED:
                words = f"{words} (forced although {chosen.state.value})"
            return self._course(ledger, model, by, self.clock()).promote(chosen.name, words)

        return await self.ledgers.transact(work)

    async def roll_back(self, model: str, *, by: str, reason: str) -> Model:
        """Make the previous champion champion again and end any rollout; raises `NothingToRollBack`."""

        def work(ledger: Ledger) -> Model:
            course = self._course(ledger, model, by, self.clock())
            return course.roll_back(reason or "rolled back by hand")

        return await self.ledgers.transact(work)

    async def put_rollout(self, model: str, wish: Wish, *, by: str) -> Rollout:
        """Begin a rollout, or change the stage or shares of the one under way.

        Raises `InvalidMessage`, `UnknownVersion`, `VersionRefused`, `ApprovalMissing`, `NothingToCompare`,
        `RolloutUnderWay`.
        """
        check(wish)

        def work(ledger: Ledger) -> Rollout:
            return self._course(ledger, model, by, self.clock()).put(wish)

        return await self.ledgers.transact(work)

    async def end_rollout(self, model: str, *, by: str, reason: str) -> Model:
        """End the rollout: the champion answers for every key. Raises `NothingUnderWay`."""

        def work(ledger: Ledger) -> Model:
            course = self._course(ledger, model, by, self.clock())
            if course.model.rollout is None:
                raise NothingUnderWay(f"model `{model}` has no rollout under way", field="model")
            return course.end(reason or "ended by hand")

        return await self.ledgers.transact(work)

    async def note_judgement(self, judgement: Judgement) -> Step | None:
        """Do what monitor's word leads to; None when it is about no rollout that is under way."""

        def work(ledger: Ledger) -> Step | None:
            if not judgement.rollout_id or not known(ledger, judgement.model):
                return None
            return self._course(ledger, judgement.model, MONITOR, self.clock()).judge(judgement)

        return await self.ledgers.transact(work)

    async def note_failure(self, model: str, version: str, error: str, at: datetime) -> bool:
        """Withdraw the challenger of an automatic rollout that could not be loaded `at` some time after its begin."""

        def work(ledger: Ledger) -> bool:
            if not known(ledger, model):
                return False
            return self._course(ledger, model, SERVING, self.clock()).fail(version, error, at)

        return await self.ledgers.transact(work)

    async def end_overdue(self) -> Sequence[str]:
        """End the stages that reached no verdict within the policy's hours; the models whose were."""

        def work(ledger: Ledger) -> Sequence[str]:
            now = self.clock()
            courses = [self._course(ledger, model.name, POLICY, now) for model in ledger.models() if model.rollout]
            return [course.model.name for course in courses if course.expire()]

        return await self.ledgers.transact(work)

    async def set_alias(self, model: str, alias: str, version: str, *, by: str, reason: str) -> Model:
        """Point an alias at a version, or unset it with an empty one; raises `AliasReserved` for `champion`."""

        def work(ledger: Ledger) -> Model:
            found = ledger.model(model)
            after = pointed(found.aliases, alias, version and ledger.version(model, version).name)
            words = reason or "set by hand"
            return ledger.settle(found, after, found.rollout, by=by, reason=words, at=self.clock())

        return await self.ledgers.transact(work)

    async def approve(self, model: str, version: str, *, by: str, approved: bool, reason: str) -> Version:
        """Record a person's yes or no; the last yes that the policy asks for accepts the version, a no refuses it.

        Raises `NothingToApprove` when the version does not wait, unless the person only repeats what they said.
        """

        def work(ledger: Ledger) -> Version:
            chosen, at = ledger.version(model, version), self.clock()
            if chosen.state is not VersionState.AWAITING_APPROVAL:
                return _said_already(ledger, chosen, by, approved)
            ledger.approve(chosen, by, approved, reason, at)
            if not approved:
                return self._decide(ledger, chosen, VersionState.REFUSED, by=by, reason=reason or "refused", at=at)
            if list(ledger.approvals(chosen).values()).count(True) < policy_for(model, self.policies).approvals:
                return chosen
            return self._decide(ledger, chosen, VersionState.ACCEPTED, by=by, reason=reason or "approved", at=at)

        return await self.ledgers.transact(work)

    def _judge_run(self, ledger: Ledger, candidate: Candidate, at: datetime) -> Version:
        before = ledger.version_of_run(candidate.model, candidate.run_id)
        if before is not None:
            return before
        policy = policy_for(candidate.model, self.policies)
        gates = judge(candidate.evidence or NOT_MEASURED, policy, _champion(ledger, candidate.model))
        version = ledger.add_version(candidate, state_after(gates, policy), gates, at)
        return self._decide(ledger, version, version.state, by=POLICY, reason=_summary(gates), at=at)

    def _register(self, ledger: Ledger, candidate: Candidate, at: datetime) -> Version:
        before = ledger.version_of_run(candidate.model, candidate.run_id)
        if before is not None and before.candidate.package.digest != candidate.package.digest:
            raise RunRegistered(
                f"run {candidate.run_id} made version {before.name}, of another package", field="run_id"
            )
        if before is not None:
            return before
        state = state_after((), policy_for(candidate.model, self.policies))
        version = ledger.add_version(candidate, state, (), at)
        ledger.say_judged(version, by=candidate.registered_by, reason=UNMEASURED, at=at)
        return version

    def _decide(
        self, ledger: Ledger, version: Version, state: VersionState, *, by: str, reason: str, at: datetime
    ) -> Version:
        """Say where the version stands, and move what follows from it; a version that goes live at once never waits."""
        if version.state is not state:
            version = ledger.set_state(version, state)
        ledger.say_judged(version, by=by, reason=reason, at=at)
        course = self._course(ledger, version.candidate.model, by, at)
        if state is VersionState.REFUSED:
            course.drop(version.name, reason)
        elif state is VersionState.ACCEPTED and course.policy.auto_promote:
            course.accept(version, reason)
        else:
            course.wait(version.name, reason)
        return version

    def _course(self, ledger: Ledger, model: str, by: str, at: datetime) -> Course:
        return Course(ledger, ledger.model(model), policy_for(model, self.policies), by, at)


def _said_already(ledger: Ledger, version: Version, by: str, approved: bool) -> Version:
    if ledger.approvals(version).get(by) is approved:
        return version
    words = version.state.value.replace("_", " ")
    raise NothingToApprove(f"version {version.name} is {words}, nothing waits for approval", field="version")


def _champion(ledger: Ledger, model: str) -> str:
    found = known(ledger, model)
    return found.aliases.get(CHAMPION, "") if found else ""


def _summary(gates: Sequence[GateResult]) -> str:
    failed = [gate for gate in gates if not gate.passed]
    return "; ".join(f"{g.gate}: {g.measured:.4g} (limit {g.limit:.4g}, {g.detail})" for g in failed or gates)
