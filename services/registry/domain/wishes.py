"""What people may ask of a rollout: the form of a request, checked before anything is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.common.errors import InvalidMessage
from services.registry.domain.aliases import NAME
from services.registry.domain.model import ALIASES, Arm, Stage

CANARY: Final = "canary"
TAKEN: Final = (*ALIASES, CANARY, "direct", "watch")
"""Roles that predictions already have: an arm of an experiment is called something else."""
LONGEST: Final = 40
"""Characters of an arm's name: history shows it behind `rollout/experiment/`."""
ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Wish:
    """A rollout as asked for. `share` is a canary's, `arms` an experiment's, which has no `challenger`."""

    stage: Stage
    challenger: str = ""
    share: float = 0.0
    arms: tuple[Arm, ...] = ()
    automatic: bool = False
    reason: str = ""

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """Its arms, a canary's too."""
        return (Arm(CANARY, self.challenger, self.share),) if self.stage is Stage.CANARY else self.arms


def check(wish: Wish) -> None:
    """Raise `InvalidMessage`, naming the field, for a wish that could never be done."""
    if wish.stage is Stage.WATCH:
        raise _invalid("stage", "`watch` follows a promotion by policy (`watch_pairs`), nobody asks for it")
    if wish.stage is Stage.EXPERIMENT:
        _check_experiment(wish)
        return
    if not wish.challenger:
        raise _invalid("challenger", f"a {wish.stage.value} needs a challenger: a version or an alias")
    if wish.arms:
        raise _invalid("arms", f"arms are of an experiment, not of a {wish.stage.value}")
    if wish.stage is Stage.SHADOW and wish.share:
        raise _invalid("share", "a shadow answers nobody and has no share; a canary has")
    if wish.stage is Stage.CANARY:
        _check_share("share", wish.share)


def _check_experiment(wish: Wish) -> None:
    if wish.challenger:
        raise _invalid("challenger", "an experiment has arms, not a challenger")
    if wish.share:
        raise _invalid("share", "an experiment's shares are those of its arms")
    if wish.automatic:
        raise _invalid("automatic", "an experiment has no next stage: people end it")
    if not wish.arms:
        raise _invalid("arms", "an experiment needs arms: a name, a version and a share each")
    _check_names([arm.name for arm in wish.arms])
    for arm in wish.arms:
        if not arm.version:
            raise _invalid("arms", f"arm `{arm.name}` has no version")
        _check_share("arms", arm.share)
    total = sum(arm.share for arm in wish.arms)
    if total > 1 + ROUNDING:
        raise _invalid("arms", f"the arms' shares add up to {total:.4g}, at most 1 can be shared out")


def _check_names(names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if not NAME.fullmatch(name) or len(name) > LONGEST:
            raise _invalid("arms", f"arm {name[:80]!r} is not of the form {NAME.pattern}, {LONGEST} characters at most")
        if name in TAKEN:
            raise _invalid("arms", f"an arm cannot be called `{name}`: predictions have that role already")
        if name in names[:place]:
            raise _invalid("arms", f"two arms are called `{name}`")


def _check_share(field: str, share: float) -> None:
    if not 0 < share <= 1:
        raise _invalid(field, f"a share is above 0 and at most 1, got {share:g}")


def _invalid(field: str, words: str) -> InvalidMessage:
    return InvalidMessage(words, field=field)
