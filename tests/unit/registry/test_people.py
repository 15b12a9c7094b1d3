"""What people decide: approvals, promotions over the gates, rollbacks, aliases; each with who and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from irisloop.monitor.v1 import monitor_pb2
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.topics import ALIASES_PUBLISHED, CHALLENGER_JUDGED, EVALUATION_FINISHED, VERSION_JUDGED
from irisloop.trainer.v1 import trainer_pb2
from prometheus_client import REGISTRY

from services.common.bus import Event
from services.registry import queries
from services.registry.domain.model import VersionState
from services.registry.domain.policy import Policy
from services.registry.errors import (
    AliasReserved,
    ApprovalMissing,
    NothingToApprove,
    NothingToRollBack,
    RunRegistered,
    UnknownModel,
    UnknownVersion,
    VersionRefused,
)
from services.registry.wire import candidate_of_run
from tests.unit.registry.world import START, World, better, report, run, world

BAD = report({"all": 0.1})


async def approve(registry: World, by: str, approved: bool = True, version: str = "1") -> VersionState:
    said = await registry.handlers.approve("garments", version, by=by, approved=approved, reason="seen")
    return said.state


async def test_two_different_people_approve(tmp_path: Path) -> None:
    async with world(tmp_path, Policy(approvals=2)) as registry:
        await registry.hear(run())
        assert await registry.aliases() == {"challenger": "1"}
        for _ in range(3):
            assert await approve(registry, "ann") is VersionState.AWAITING_APPROVAL
        assert await approve(registry, "bob") is VersionState.ACCEPTED
        assert await registry.aliases() == {"champion": "1"}
        judged = await registry.said(VERSION_JUDGED)
        assert [(one.version.state, one.judged_by) for one in judged] == [
            (pb.VERSION_STATE_AWAITING_APPROVAL, "policy"),
            (pb.VERSION_STATE_ACCEPTED, "bob"),
        ]
        assert judged[1].request_id == "request-of-run-1"
        assert await approve(registry, "bob") is VersionState.ACCEPTED, "said again, nothing new"
        with pytest.raises(NothingToApprove, match="accepted"):
            await approve(registry, "eve")
        with pytest.raises(NothingToApprove):
            await approve(registry, "bob", approved=False)


async def test_a_no_refuses_and_ends_the_challenge(tmp_path: Path) -> None:
    async with world(tmp_path, Policy(approvals=2)) as registry:
        await registry.hear(run())
        await approve(registry, "ann")
        assert await approve(registry, "bob", approved=False) is VersionState.REFUSED
        assert await registry.aliases() == {}
        assert [one.version.state for one in await registry.said(VERSION_JUDGED)][-1] == pb.VERSION_STATE_REFUSED
        with pytest.raises(NothingToApprove, match="refused"):
            await approve(registry, "carl")
        with pytest.raises(VersionRefused, match="by a person"):
            await registry.handlers.promote("garments", "1", by="ann", reason="", force=False)


async def test_an_unapproved_version_goes_live_only_by_force(tmp_path: Path) -> None:
    async with world(tmp_path, Policy(approvals=1)) as registry:
        await registry.hear(run())
        with pytest.raises(ApprovalMissing):
            await registry.handlers.promote("garments", "1", by="ann", reason="", force=False)
        await registry.handlers.promote("garments", "1", by="ann", reason="fire", force=True)
        page = await queries.history(registry.handlers.ledgers, "garments", limit=1, cursor="", since=None)
        assert page.moves[0].reason == "fire (forced although awaiting_approval)"


async def test_a_refused_version_goes_live_only_by_force_and_the_record_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1", BAD))
        with pytest.raises(VersionRefused, match=r"first_accuracy 0\.100 against 0\.500.*--force"):
            await registry.handlers.promote("garments", "1", by="ann", reason="", force=False)
        await registry.handlers.promote("garments", "1", by="ann", reason="", force=True)
        page = await queries.history(registry.handlers.ledgers, "garments", limit=0, cursor="", since=None)
        assert [(move.alias, move.moved_by, move.reason) for move in page.moves] == [
            ("champion", "ann", "promoted by hand (forced although refused)")
        ]


async def test_rolling_back_twice_goes_there_and_back(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        await registry.handlers.roll_back("garments", by="ann", reason="complaints")
        assert await registry.aliases() == {"champion": "1", "previous": "2"}
        await registry.handlers.roll_back("garments", by="ann", reason="")
        assert await registry.aliases() == {"champion": "2", "previous": "1"}
        assert [one.revision for one in await registry.said(ALIASES_PUBLISHED)] == [1, 2, 3, 4]


async def test_with_one_version_there_is_nothing_to_roll_back(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        with pytest.raises(UnknownModel):
            await registry.handlers.roll_back("garments", by="ann", reason="")
        await registry.hear(run())
        with pytest.raises(NothingToRollBack):
            await registry.handlers.roll_back("garments", by="ann", reason="")


async def test_promoting_what_is_live_moves_and_says_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run())
        await registry.handlers.promote("garments", "champion", by="ann", reason="", force=False)
        assert await registry.waiting() == []
        assert len(await registry.said(ALIASES_PUBLISHED)) == 1


async def test_a_champion_is_not_set_around_the_gates(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1", BAD))
        with pytest.raises(AliasReserved):
            await registry.handlers.set_alias("garments", "champion", "1", by="ann", reason="")
        after = await registry.handlers.set_alias("garments", "canary", "1", by="ann", reason="")
        assert after.aliases == {"canary": "1"}
        assert (await registry.handlers.set_alias("garments", "canary", "", by="ann", reason="")).aliases == {}


async def test_a_package_registered_by_hand_is_one_version_and_not_live(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        candidate = candidate_of_run(run())
        first = await registry.handlers.register_version(candidate)
        assert await registry.handlers.register_version(candidate) == first
        assert (first.state, first.gates, await registry.aliases()) == (VersionState.ACCEPTED, (), {})
        with pytest.raises(RunRegistered):
            await registry.handlers.register_version(candidate_of_run(run(digest="f" * 64)))
        (judged,) = await registry.said(VERSION_JUDGED)
        assert "gates not measured" in judged.reason
        await registry.handlers.promote("garments", "1", by="ann", reason="", force=False)
        assert await registry.aliases() == {"champion": "1"}


async def test_packages_without_a_run_are_versions_each(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        foreign = run("run-1")
        foreign.id = ""
        numbers = [(await registry.handlers.register_version(candidate_of_run(foreign))).number for _ in range(2)]
        assert numbers == [1, 2]
        await registry.hear(run("run-9"))
        assert [one.version.run_id for one in await registry.said(VERSION_JUDGED)] == ["", "", "run-9"]


async def test_by_hand_does_not_go_around_the_people_either(tmp_path: Path) -> None:
    async with world(tmp_path, Policy(approvals=1)) as registry:
        version = await registry.handlers.register_version(candidate_of_run(run()))
        assert version.state is VersionState.AWAITING_APPROVAL


@pytest.mark.parametrize("version", ["7", "nobody", "9" * 40, "-1", "0", "1.5"])
async def test_an_unknown_version_is_named(tmp_path: Path, version: str) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run())
        with pytest.raises(UnknownVersion, match="garments"):
            await queries.version(registry.handlers.ledgers, "garments", version)


async def test_what_others_measured_later_is_noted_and_moves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run())
        verdict = monitor_pb2.ChallengerJudged(model="garments", verdict="worse")
        evaluation = trainer_pb2.EvaluationFinished(model="garments", version="1", report=BAD)
        await registry.bus.publish(
            [
                Event(CHALLENGER_JUDGED, "garments", verdict, "id-1", START),
                Event(EVALUATION_FINISHED, "garments", evaluation, "id-2", START),
            ]
        )
        await registry.settle()
        assert await registry.aliases() == {"champion": "1"}
        assert len(await registry.said(VERSION_JUDGED)) == 1
        assert registry.bus.dead_letters(CHALLENGER_JUDGED) == registry.bus.dead_letters(EVALUATION_FINISHED) == []


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_decisions_are_counted_once_they_are_committed(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        accepted = counted("irisloop_registry_versions_total", state="accepted")
        moves = counted("irisloop_registry_alias_moves_total", alias="champion")
        others = counted("irisloop_registry_alias_moves_total", alias="other")
        await registry.hear(run(), run())
        with pytest.raises(NothingToRollBack):
            await registry.handlers.roll_back("garments", by="ann", reason="")
        await registry.handlers.set_alias("garments", "canary-7", "1", by="ann", reason="")
        assert counted("irisloop_registry_versions_total", state="accepted") == accepted + 1
        assert counted("irisloop_registry_alias_moves_total", alias="champion") == moves + 1
        assert counted("irisloop_registry_alias_moves_total", alias="other") == others + 1
