"""What registry does: one function for each message or call, whatever transport it came by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.registry.domain.aliases import challenged, dropped, pointed, promoted, rolled_back
from services.registry.domain.gates import judge, state_after
from services.registry.domain.model import CHAMPION, NOT_MEASURED, Candidate, GateResult, Model, Version, VersionState
from services.registry.domain.policy import Policy, policy_for
from services.registry.domain.ports import Ledger, Ledgers
from services.registry.errors import ApprovalMissing, NothingToApprove, RunRegistered, VersionRefused

POLICY = "policy"
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
        """Make a version champion; raises `VersionRefused` or `ApprovalMissing` unless forced."""

        def work(ledger: Ledger) -> Model:
            chosen = ledger.version(model, version)
            if not force:
                require_accepted(chosen)
            words = reason or "promoted by hand"
            if chosen.state is not VersionState.ACCEPTED:
                words = f"{words} (forced although {chosen.state.value})"
            return self._promote(ledger, chosen, by=by, reason=words, at=self.clock())

        return await self.ledgers.transact(work)

    async def roll_back(self, model: str, *, by: str, reason: str) -> Model:
        """Make the previous champion champion again; raises `NothingToRollBack`."""

        def work(ledger: Ledger) -> Model:
            found = ledger.model(model)
            after = rolled_back(found.aliases, model)
            return ledger.set_aliases(found, after, by=by, reason=reason or "rolled back by hand", at=self.clock())

        return await self.ledgers.transact(work)

    async def set_alias(self, model: str, alias: str, version: str, *, by: str, reason: str) -> Model:
        """Point an alias at a version, or unset it with an empty one; raises `AliasReserved` for `champion`."""

        def work(ledger: Ledger) -> Model:
            found = ledger.model(model)
            after = pointed(found.aliases, alias, version and ledger.version(model, version).name)
            return ledger.set_aliases(found, after, by=by, reason=reason or "set by hand", at=self.clock())

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
        known = ledger.version_of_run(candidate.model, candidate.run_id)
        if known is not None:
            return known
        policy = policy_for(candidate.model, self.policies)
        gates = judge(candidate.evidence or NOT_MEASURED, policy, _champion(ledger, candidate.model))
        version = ledger.add_version(candidate, state_after(gates, policy), gates, at)
        return self._decide(ledger, version, version.state, by=POLICY, reason=_summary(gates), at=at)

    def _register(self, ledger: Ledger, candidate: Candidate, at: datetime) -> Version:
        known = ledger.version_of_run(candidate.model, candidate.run_id)
        if known is not None and known.candidate.package.digest != candidate.package.digest:
            raise RunRegistered(f"run {candidate.run_id} made version {known.name}, of another package", field="run_id")
        if known is not None:
            return known
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
        model = ledger.model(version.candidate.model)
        if state is VersionState.REFUSED:
            ledger.set_aliases(model, dropped(model.aliases, version.name), by=by, reason=reason, at=at)
        elif state is VersionState.ACCEPTED and policy_for(model.name, self.policies).auto_promote:
            self._promote(ledger, version, by=by, reason=reason, at=at)
        else:
            ledger.set_aliases(model, challenged(model.aliases, version.name), by=by, reason=reason, at=at)
        return version

    def _promote(self, ledger: Ledger, version: Version, *, by: str, reason: str, at: datetime) -> Model:
        model = ledger.model(version.candidate.model)
        after = promoted(model.aliases, version.name, policy_for(model.name, self.policies))
        return ledger.set_aliases(model, after, by=by, reason=reason, at=at)


def require_accepted(version: Version) -> None:
    """Raise unless the version may go live by its own merit."""
    if version.state is VersionState.REFUSED:
        failed = "; ".join(f"{g.gate} {g.measured:.3f} against {g.limit:.3f}" for g in version.gates if not g.passed)
        raise VersionRefused(
            f"version {version.name} was refused ({failed or 'by a person'}); `--force` promotes it all the same",
            field="version",
        )
    if version.state is VersionState.AWAITING_APPROVAL:
        raise ApprovalMissing(f"version {version.name} waits for approval: `irisloop models approve`", field="version")


def _said_already(ledger: Ledger, version: Version, by: str, approved: bool) -> Version:
    if ledger.approvals(version).get(by) is approved:
        return version
    words = version.state.value.replace("_", " ")
    raise NothingToApprove(f"version {version.name} is {words}, nothing waits for approval", field="version")


def _champion(ledger: Ledger, model: str) -> str:
    found = next((known for known in ledger.models() if known.name == model), None)
    return found.aliases.get(CHAMPION, "") if found else ""


def _summary(gates: Sequence[GateResult]) -> str:
    failed = [gate for gate in gates if not gate.passed]
    return "; ".join(f"{g.gate}: {g.measured:.4g} (limit {g.limit:.4g}, {g.detail})" for g in failed or gates)
