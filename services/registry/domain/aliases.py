"""How aliases move: the only place that says what a promotion and a rollback are."""

from __future__ import annotations

from collections.abc import Mapping

from services.registry.domain.model import CHALLENGER, CHAMPION, PREVIOUS, SHADOW
from services.registry.domain.policy import Policy
from services.registry.errors import NothingToRollBack


def promoted(aliases: Mapping[str, str], version: str, policy: Policy) -> dict[str, str]:
    """The alias map once `version` is champion: the old champion stays loaded as `previous`, and in shadow by policy."""
    after = {name: target for name, target in aliases.items() if name != CHALLENGER}
    champion = aliases.get(CHAMPION, "")
    after[CHAMPION] = version
    if champion and champion != version:
        after[PREVIOUS] = champion
        if policy.keep_previous_in_shadow:
            after[SHADOW] = champion
    return after


def rolled_back(aliases: Mapping[str, str], model: str) -> dict[str, str]:
    """The alias map once `previous` is champion again; the one that failed becomes `previous` and leaves the shadow.

    Raises `NothingToRollBack` when there is no previous champion.
    """
    previous = aliases.get(PREVIOUS, "")
    if not previous:
        raise NothingToRollBack(f"model `{model}` has no previous champion to go back to", field="model")
    after = {name: target for name, target in aliases.items() if name not in (SHADOW, CHALLENGER)}
    after[CHAMPION], after[PREVIOUS] = previous, aliases.get(CHAMPION, "")
    return after


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(alias, from, to) for every alias that differs, sorted by name; an empty version is an unset alias."""
    names = sorted(set(before) | set(after))
    return [(n, before.get(n, ""), after.get(n, "")) for n in names if before.get(n, "") != after.get(n, "")]
