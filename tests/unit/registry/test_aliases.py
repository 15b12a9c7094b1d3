"""Promotions and rollbacks as maps of aliases."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidMessage
from services.registry.domain.aliases import challenged, changes, dropped, pointed, promoted, rolled_back
from services.registry.domain.policy import Policy
from services.registry.errors import AliasReserved, NothingToRollBack

POLICY = Policy()


def test_the_first_promotion_sets_the_champion_alone() -> None:
    assert promoted({}, "1", POLICY) == {"champion": "1"}


def test_a_promotion_keeps_the_old_champion_loaded() -> None:
    after = promoted({"champion": "1", "challenger": "2"}, "2", POLICY)
    assert after == {"champion": "2", "previous": "1", "shadow": "1"}
    alone = promoted({"champion": "1"}, "2", Policy(keep_previous_in_shadow=False))
    assert alone == {"champion": "2", "previous": "1"}


def test_promoting_the_champion_changes_nothing() -> None:
    before = {"champion": "2", "previous": "1", "shadow": "1", "mine": "1"}
    assert promoted(before, "2", POLICY) == before


def test_another_challenger_stays_one() -> None:
    assert promoted({"champion": "1", "challenger": "3"}, "2", POLICY)["challenger"] == "3"


def test_rolling_back_twice_goes_there_and_back() -> None:
    live = {"champion": "2", "previous": "1", "shadow": "1", "challenger": "3"}
    once = rolled_back(live, "garments")
    assert once == {"champion": "1", "previous": "2", "challenger": "3"}
    assert rolled_back(once, "garments") == {"champion": "2", "previous": "1", "challenger": "3"}


def test_a_shadow_that_people_chose_stays() -> None:
    assert rolled_back({"champion": "2", "previous": "1", "shadow": "7"}, "garments")["shadow"] == "7"


@pytest.mark.parametrize("aliases", [{}, {"champion": "1"}, {"champion": "1", "previous": "1"}])
def test_without_another_champion_there_is_nothing_to_roll_back(aliases: dict[str, str]) -> None:
    with pytest.raises(NothingToRollBack, match="garments"):
        rolled_back(aliases, "garments")


def test_a_challenger_comes_and_goes() -> None:
    waiting = challenged({"champion": "1"}, "2")
    assert waiting == {"champion": "1", "challenger": "2"}
    assert dropped(waiting, "2") == {"champion": "1"}
    assert dropped(waiting, "1") == waiting


def test_aliases_are_set_and_unset_by_hand() -> None:
    assert pointed({"champion": "1"}, "canary", "1") == {"champion": "1", "canary": "1"}
    assert pointed({"canary": "1"}, "canary", "") == {}
    for name in ("champion", "previous"):
        with pytest.raises(AliasReserved):
            pointed({}, name, "1")
    for name in ("1", "Canary", "a b", "", "x" * 65):
        with pytest.raises(InvalidMessage):
            pointed({}, name, "1")


def test_changes_name_every_alias_that_differs() -> None:
    assert changes({"a": "1", "b": "1"}, {"b": "2", "c": "1"}) == [("a", "1", ""), ("b", "1", "2"), ("c", "", "1")]
