"""How aliases move: the only place that says what a promotion and a rollback are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from services.common.errors import InvalidMessage
from services.registry.domain.model import CHALLENGER, CHAMPION, PREVIOUS, SHADOW
from services.registry.domain.policy import Policy
from services.registry.errors import AliasReserved, NothingToRollBack

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""An alias is never a number, so that `version or alias` has one meaning."""
RESERVED: Final = (CHAMPION, PREVIOUS)


def promoted(aliases: Mapping[str, str], version: str, policy: Policy) -> dict[str, str]:
    """The map once `version` is champion: the old champion becomes `previous`, and `shadow` by policy.

    Another challenger stays one; promoting the champion changes nothing.
    """
    champion = aliases.get(CHAMPION, "")
    after = _without(aliases, CHALLENGER, version)
    after[CHAMPION] = version
    if champion and champion != version:
        after[PREVIOUS] = champion
        if policy.keep_previous_in_shadow:
            after[SHADOW] = champion
    return after


def rolled_back(aliases: Mapping[str, str], model: str) -> dict[str, str]:
    """The map once `previous` is champion again; the one that failed becomes `previous`, and is not put in shadow.

    So a second rollback undoes the first. Raises `NothingToRollBack` when there is no other champion to go back to.
    """
    champion, previous = aliases.get(CHAMPION, ""), aliases.get(PREVIOUS, "")
    if not previous or previous == champion:
        raise NothingToRollBack(f"model `{model}` has no previous champion to go back to", field="model")
    after = _without(aliases, SHADOW, previous)
    after[CHAMPION], after[PREVIOUS] = previous, champion
    return after


def challenged(aliases: Mapping[str, str], version: str) -> dict[str, str]:
    """The map once `version` is the one that waits for its turn."""
    return {**aliases, CHALLENGER: version}


def dropped(aliases: Mapping[str, str], version: str) -> dict[str, str]:
    """The map once `version` waits no more, being refused."""
    return _without(aliases, CHALLENGER, version)


def pointed(aliases: Mapping[str, str], alias: str, version: str) -> dict[str, str]:
    """The map with one alias set by hand, or unset by an empty version.

    Raises `AliasReserved` for those that tell what was live, `InvalidMessage` for a name that could be a number.
    """
    if alias in RESERVED:
        raise AliasReserved(f"`{alias}` moves by promotion and rollback, it is not set by hand", field="alias")
    if not NAME.fullmatch(alias):
        raise InvalidMessage(f"alias {alias[:80]!r} is not of the form {NAME.pattern}", field="alias")
    after = {name: target for name, target in aliases.items() if name != alias}
    return {**after, alias: version} if version else after


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(alias, from, to) for every alias that differs, sorted by name; an empty version is an unset alias."""
    names = sorted(set(before) | set(after))
    return [(n, before.get(n, ""), after.get(n, "")) for n in names if before.get(n, "") != after.get(n, "")]


def _without(aliases: Mapping[str, str], alias: str, version: str) -> dict[str, str]:
    return {name: target for name, target in aliases.items() if (name, target) != (alias, version)}
