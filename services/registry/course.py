"""What handlers do with one model inside one transaction: promote, begin a rollout, go on with it, withdraw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.common.bus import derive_id
from services.registry.domain import rollouts
from services.registry.domain.aliases import challenged, dropped, promoted, rolled_back
from services.registry.domain.model import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    Model,
    Rollout,
    Stage,
    Version,
    VersionState,
)
from services.registry.domain.policy import Policy
from services.registry.domain.ports import Ledger
from services.registry.domain.rollouts import Judgement, Step, title
from services.registry.domain.wishes import Wish
from services.registry.errors import ApprovalMissing, UnknownModel, VersionRefused

POLICY: Final = "policy"
SKEW: Final = timedelta(seconds=5)
"""How far the clocks of two services may differ."""


@dataclass(slots=True)
class Course:
    """One model in an open transaction, its policy, and who acts at what time."""

    ledger: Ledger
    model: Model
    policy: Policy
    by: str
    at: datetime

    def accept(self, version: Version, reason: str) -> None:
        """Let an accepted version go live: through the policy's stages, or at once where there is none to pass.

        While another version is on its way it waits as `challenger`, and begins when that one is withdrawn.
        """
        running = self.model.rollout
        direct = not self.policy.stages or self.model.aliases.get(CHAMPION, version.name) == version.name
        if running and not (direct and running.stage is Stage.WATCH):
            self.wait(version.name, f"{reason}; waits, {rollouts.who(running)} is under way ({title(running)})")
        elif direct:
            self.promote(version.name, reason)
        else:
            self._begin(version.name, reason)

    def wait(self, version: str, reason: str) -> None:
        """Make a version the one that waits for its turn."""
        self._settle(challenged(self.model.aliases, version), self.model.rollout, reason)

    def drop(self, version: str, reason: str) -> None:
        """A version that is refused waits no more."""
        self._settle(dropped(self.model.aliases, version), self.model.rollout, reason)

    def promote(self, version: str, reason: str) -> Model:
        """Make a version champion; any rollout ends, and the policy may have the new champion watched.

        Promoting the champion changes nothing.
        """
        after = promoted(self.model.aliases, version, self.policy)
        if self.model.aliases.get(CHAMPION) == version:
            return self._settle(after, self.model.rollout, reason)
        watch = None
        if self.policy.watch_pairs:
            new = self._new_id(version)
            watch = rollouts.watched(self.model, version, new, by=self.by, reason=reason, at=self.at)
        return self._settle(after, watch, reason)

    def roll_back(self, reason: str) -> Model:
        """Make the previous champion champion again, and end any rollout."""
        after = rolled_back(self.model.aliases, self.model.name)
        return self._settle(dropped(after, self._challenger), None, reason)

    def put(self, wish: Wish) -> Rollout:
        """The rollout as wished, its versions found and accepted."""
        wish = self._resolved(wish)
        after = rollouts.put(self.model, wish, self._new_id(wish.challenger), by=self.by, at=self.at)
        if after != self.model.rollout:
            aliases = dict(self.model.aliases)
            if after.challenger:
                aliases = challenged(aliases, after.challenger)
            self._settle(aliases, after, f"{title(after)}: {after.reason}")
        return after

    def end(self, reason: str) -> Model:
        """The champion answers for every key again; a version that waited stays waiting, for people ended this."""
        return self._settle(dropped(self.model.aliases, self._challenger), None, reason)

    def judge(self, judgement: Judgement) -> Step | None:
        """Do what a judgement leads to; None when it is not about the rollout that is under way."""
        running = self.model.rollout
        if running is None or running.id != judgement.rollout_id:
            return None
        step = rollouts.step(running, judgement, self.policy)
        after = rollouts.following(running, self.policy)
        if step is Step.WITHDRAW:
            self._withdraw(running, judgement.words)
        elif step is Step.PROMOTE:
            self.model = replace(self.model, rollout=replace(running, pairs=judgement.pairs))
            self.promote(running.challenger, judgement.words)
        elif step is Step.END:
            self._end_watch(f"no longer watched: {judgement.words}")
        elif step is Step.ADVANCE and after is not None:
            stage = rollouts.advanced(running, after, judgement.pairs, judgement.words, self.at)
            self._settle(dict(self.model.aliases), stage, f"{title(stage)}: {judgement.words}")
        elif not self.expire() and judgement.pairs > running.pairs:
            self.ledger.count_pairs(running, judgement.pairs)
        return step

    def fail(self, version: str, error: str, at: datetime) -> bool:
        """Withdraw an automatic rollout whose challenger could not be loaded; a failure before it began is old news."""
        running = self.model.rollout
        if running is None or not running.automatic or running.challenger != version:
            return False
        if at < running.started_at - SKEW:
            return False
        self._withdraw(running, f"version {version} did not load: {error or 'no reason was given'}")
        return True

    def expire(self) -> bool:
        """End a stage that reached no verdict in time: a watch ends well, whatever else was under way is withdrawn."""
        running = self.model.rollout
        if running is None or not rollouts.overdue(running, self.policy, self.at):
            return False
        words = f"no verdict in {self.policy.stage_hours:g} hours of {title(running)} ({running.pairs} pairs)"
        if running.stage is Stage.WATCH:
            self._end_watch(f"no longer watched: {words}")
        else:
            self._withdraw(running, words)
        return True

    def _begin(self, version: str, reason: str) -> None:
        first = self.policy.stages[0]
        wish = Wish(first.stage, version, first.share, automatic=True, reason=reason)
        self.put(wish)

    def _withdraw(self, running: Rollout, reason: str) -> None:
        """The version before answers again, for everything."""
        aliases = dropped(self.model.aliases, running.challenger)
        if running.stage is Stage.WATCH and aliases.get(PREVIOUS) == running.champion:
            self._settle(rolled_back(aliases, self.model.name), None, f"rolled back: {reason}")
        else:
            self._settle(aliases, None, f"withdrawn: {reason}")
        self._begin_next()

    def _end_watch(self, reason: str) -> None:
        self._settle(dict(self.model.aliases), None, reason)
        self._begin_next()

    def _begin_next(self) -> None:
        """Begin with the version that waited meanwhile, if it was measured against the champion that is live."""
        name = self.model.aliases.get(CHALLENGER, "")
        if not (name and self.policy.auto_promote):
            return
        version = self.ledger.version(self.model.name, name)
        evidence = version.candidate.evidence
        if version.state is VersionState.ACCEPTED and evidence and self._live(evidence.champion_version):
            self.accept(version, "it waited for its turn")

    @property
    def _challenger(self) -> str:
        return self.model.rollout.challenger if self.model.rollout else ""

    def _live(self, version: str) -> bool:
        return bool(version) and self.model.aliases.get(CHAMPION) == version

    def _resolved(self, wish: Wish) -> Wish:
        arms = tuple(replace(arm, version=self._accepted(arm.version)) for arm in wish.arms)
        return replace(wish, challenger=wish.challenger and self._accepted(wish.challenger), arms=arms)

    def _accepted(self, version: str) -> str:
        found = self.ledger.version(self.model.name, version)
        require_accepted(found)
        return found.name

    def _new_id(self, challenger: str) -> str:
        return derive_id("rollout", self.model.name, challenger, str(self.model.revision + 1))

    def _settle(self, aliases: dict[str, str], rollout: Rollout | None, reason: str) -> Model:
        self.model = self.ledger.settle(self.model, aliases, rollout, by=self.by, reason=reason, at=self.at)
        return self.model


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


def known(ledger: Ledger, model: str) -> Model | None:
    """The model, if there is one of that name."""
    try:
        return ledger.model(model)
    except UnknownModel:
        return None
