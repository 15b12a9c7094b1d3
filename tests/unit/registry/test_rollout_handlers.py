"""Rollouts on the ledger: the whole way by itself, what comes twice or late, what people do, a restart between."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from irisloop.monitor.v1 import monitor_pb2
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ALIAS_MOVED, ALIASES_PUBLISHED, CHALLENGER_JUDGED, DEPLOYMENT_CHANGED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Event, MemoryBroker, derive_id
from services.common.errors import InvalidMessage, Unavailable
from services.registry.app import keep_deadlines
from services.registry.domain.model import Arm, Rollout, Stage
from services.registry.domain.policy import Policy, PolicyStage
from services.registry.domain.wishes import Wish
from services.registry.errors import (
    ApprovalMissing,
    NothingToCompare,
    NothingUnderWay,
    RolloutUnderWay,
    UnknownModel,
    UnknownVersion,
    VersionRefused,
)
from services.registry.wire import candidate_of_run
from tests.unit.registry.world import START, World, aliases_of, better, report, run, world

STAGES = (
    PolicyStage(Stage.SHADOW, 0.0, 300),
    PolicyStage(Stage.CANARY, 0.1, 300),
    PolicyStage(Stage.CANARY, 0.5),
)
STAGED = Policy(stages=STAGES, watch_pairs=200, stage_hours=24, keep_previous_in_shadow=False)
HAND = Policy(auto_promote=False)
BAD = report({"all": 0.1})


async def rollout(registry: World) -> Rollout | None:
    return (await registry.handlers.ledgers.read(lambda ledger: ledger.model("garments"))).rollout


async def stage(registry: World) -> str:
    one = await rollout(registry)
    return f"{one.stage.value} {one.challenger} {one.share:g}" if one else ""


async def judge(registry: World, verdict: str, pairs: int, rollout_id: str = "", ce_id: str = "") -> None:
    one = await rollout(registry)
    value = monitor_pb2.ChallengerJudged(
        model="garments",
        rollout_id=rollout_id or (one.id if one else "none"),
        verdict=verdict,
        pairs=pairs,
        labelled_pairs=pairs // 10,
        mean_difference=0.041,
        reason="more errors",
        tests=[
            monitor_pb2.SequentialTest(name="worse", e_value=25.5, alpha=0.05, rejected=verdict == "worse"),
            monitor_pb2.SequentialTest(name="latency", e_value=1.0, alpha=0.05),
        ],
    )
    identity = ce_id or derive_id("judged", verdict, str(pairs), value.rollout_id)
    await registry.bus.publish([Event(CHALLENGER_JUDGED, "garments", value, identity, START)])
    await registry.settle()
    assert registry.bus.dead_letters(CHALLENGER_JUDGED) == []


async def failed(
    registry: World,
    version: str,
    at: datetime = START + timedelta(hours=1),
    state: serving_pb2.DeploymentState.ValueType = serving_pb2.DEPLOYMENT_STATE_FAILED,
) -> None:
    words = "out of memory"
    deployment = serving_pb2.Deployment(model="garments", version=version, replica="a", error=words, state=state)
    value = serving_pb2.DeploymentChanged(deployment=deployment)
    await registry.bus.publish([Event(DEPLOYMENT_CHANGED, "garments/a", value, derive_id(version, str(at)), at)])
    await registry.settle()


async def put(registry: World, wish: Wish, by: str = "ann") -> Rollout:
    return await registry.handlers.put_rollout("garments", wish, by=by)


async def moved(registry: World) -> list[tuple[str, str, str]]:
    moves = [value.move for value in await registry.said(ALIAS_MOVED)]
    return [(move.alias, move.from_version, move.to_version) for move in moves]


async def last_reason(registry: World) -> str:
    return str((await registry.said(ALIAS_MOVED))[-1].move.reason)


async def test_without_stages_an_accepted_version_is_champion_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        assert (await registry.aliases())["champion"] == "2"
        assert await stage(registry) == ""


async def test_the_whole_way_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"))
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1"})
        await registry.hear(run("run-2", better("1")))
        first = await rollout(registry)
        assert first is not None
        assert (first.automatic, first.champion, first.started_by) == (True, "1", "policy")
        assert (await stage(registry), await registry.aliases()) == ("shadow 2 0", {"champion": "1", "challenger": "2"})
        await judge(registry, "undecided", 299)
        assert await stage(registry) == "shadow 2 0"
        await judge(registry, "undecided", 305)
        assert await stage(registry) == "canary 2 0.1"
        await judge(registry, "undecided", 604)
        assert await stage(registry) == "canary 2 0.1"
        await judge(registry, "equal", 610)
        assert await stage(registry) == "canary 2 0.5"
        await judge(registry, "undecided", 9000)
        assert await stage(registry) == "canary 2 0.5"
        await judge(registry, "better", 9001)
        watch = await rollout(registry)
        assert watch is not None
        assert (watch.id, watch.stage, watch.champion, watch.challenger) == (first.id, Stage.WATCH, "1", "2")
        assert await registry.aliases() == {"champion": "2", "previous": "1"}
        await judge(registry, "undecided", 9200)
        assert await stage(registry) == "watch 2 0"
        await judge(registry, "undecided", 9201)
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "2", "previous": "1"})
        assert await moved(registry) == [
            ("champion", "", "1"),
            ("challenger", "", "2"),
            ("rollout/shadow", "", "2"),
            ("rollout/canary", "", "2"),
            ("rollout/shadow", "2", ""),
            ("rollout/canary", "2", "2"),
            ("challenger", "2", ""),
            ("champion", "1", "2"),
            ("previous", "", "1"),
            ("rollout/canary", "2", ""),
            ("rollout/watch", "", "2"),
            ("rollout/watch", "2", ""),
        ]


async def test_every_step_publishes_the_whole_map_with_what_is_needed_to_load_it(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        await judge(registry, "equal", 20)
        await registry.handlers.end_rollout("garments", by="ann", reason="")
        said = await registry.said(ALIASES_PUBLISHED)
        assert [one.revision for one in said] == [1, 2, 3, 4]
        assert [one.rollout.stage for one in said] == [0, pb.STAGE_SHADOW, pb.STAGE_CANARY, 0]
        assert not said[0].HasField("rollout")
        assert not said[3].HasField("rollout")
        assert [[one.version for one in map_.rollout_versions] for map_ in said] == [[], ["1", "2"], ["1", "2"], []]
        assert said[2].rollout_versions[1].package.digest == run("run-2").package.digest
        assert said[1].rollout.id == said[1].rollout.salt == said[2].rollout.salt
        assert [(arm.name, arm.version, arm.share) for arm in said[2].rollout.arms] == [("canary", "2", 0.1)]
        assert aliases_of(said[2]) == {"champion": "1", "challenger": "2"}


async def test_a_judgement_that_comes_again_or_is_about_another_rollout_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        first = await rollout(registry)
        assert first is not None
        await judge(registry, "equal", 20, ce_id="one")
        await judge(registry, "equal", 20, ce_id="one")
        await judge(registry, "equal", 20, ce_id="two")
        await judge(registry, "undecided", 19)
        await judge(registry, "puzzled", 2**64 - 1)
        assert await stage(registry) == "canary 2 0.1"
        await judge(registry, "worse", 90, rollout_id="another")
        assert await stage(registry) == "canary 2 0.1"
        await judge(registry, "worse", 90)
        await judge(registry, "better", 95, rollout_id=first.id)
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1"})
        again = await put(registry, Wish(Stage.SHADOW, "2", automatic=True))
        assert again.id != first.id
        await judge(registry, "worse", 96, rollout_id=first.id)
        assert await stage(registry) == "shadow 2 0"


async def test_what_is_worse_is_withdrawn_with_its_numbers(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        await judge(registry, "equal", 20)
        await judge(registry, "worse", 60)
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1"})
        assert await last_reason(registry) == (
            "withdrawn: worse after 60 pairs, 6 with a label, error +0.0410: more errors; worse e=25.5 (limit 20)"
        )


async def test_a_watched_champion_that_is_worse_gives_way_to_the_one_before(tmp_path: Path) -> None:
    async with world(tmp_path, Policy(watch_pairs=200)) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        assert (await stage(registry), (await registry.aliases())["champion"]) == ("watch 2 0", "2")
        await judge(registry, "worse", 50)
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1", "previous": "2"})
        assert "rolled back: worse after 50 pairs, 5 with a label, error +0.0410" in await last_reason(registry)


async def test_a_rollout_by_hand_moves_by_hand_but_what_is_worse_goes(tmp_path: Path) -> None:
    async with world(tmp_path, HAND) as registry:
        await registry.hear(run("run-1"))
        await registry.handlers.promote("garments", "1", by="ann", reason="", force=False)
        await registry.hear(run("run-2", better("1")))
        assert await stage(registry) == "", "people promote here"
        await put(registry, Wish(Stage.CANARY, "challenger", share=0.25, reason="try it"))
        for verdict in ("better", "equal", "undecided"):
            await judge(registry, verdict, 9000)
        assert await stage(registry) == "canary 2 0.25"
        registry.now += timedelta(days=400)
        assert await registry.handlers.end_overdue() == []
        await failed(registry, "2")
        assert await stage(registry) == "canary 2 0.25"
        await judge(registry, "worse", 9001)
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1"})


async def test_an_experiment_is_ended_by_people_alone(tmp_path: Path) -> None:
    async with world(tmp_path, HAND) as registry:
        await registry.hear(run("run-1"))
        await registry.handlers.promote("garments", "1", by="ann", reason="", force=False)
        await registry.hear(run("run-2", better("1")), run("run-3", better("1")))
        arms = (Arm("b", "2", 0.3), Arm("c", "challenger", 0.3))
        await put(registry, Wish(Stage.EXPERIMENT, arms=arms))
        await judge(registry, "worse", 9000)
        assert await stage(registry) == "experiment  0.6"
        said = (await registry.said(ALIASES_PUBLISHED))[-1]
        assert [one.version for one in said.rollout_versions] == ["1", "2", "3"]
        assert (await moved(registry))[-2:] == [("rollout/experiment/b", "", "2"), ("rollout/experiment/c", "", "3")]
        with pytest.raises(UnknownVersion, match="`9`"):
            await put(registry, Wish(Stage.EXPERIMENT, arms=(Arm("b", "9", 0.3),)))
        await registry.handlers.promote("garments", "2", by="ann", reason="won", force=False)
        assert (await stage(registry), (await registry.aliases())["champion"]) == ("", "2")


async def test_what_cannot_begin_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    async with world(tmp_path, Policy(models="asked", approvals=1), HAND) as registry:
        shadow = Wish(Stage.SHADOW, "1")
        with pytest.raises(UnknownModel):
            await put(registry, shadow)
        await registry.hear(run("run-1"), run("run-2", BAD), run("run-9", model="asked"))
        with pytest.raises(NothingToCompare, match="no champion yet"):
            await put(registry, shadow)
        await registry.handlers.promote("garments", "1", by="ann", reason="", force=False)
        before = len(await registry.said(ALIASES_PUBLISHED))
        with pytest.raises(NothingToCompare, match="version 1 is the champion"):
            await put(registry, shadow)
        with pytest.raises(VersionRefused, match="version 2 was refused"):
            await put(registry, Wish(Stage.SHADOW, "2"))
        with pytest.raises(VersionRefused):
            await put(registry, Wish(Stage.EXPERIMENT, arms=(Arm("b", "2", 0.1),)))
        with pytest.raises(ApprovalMissing):
            await registry.handlers.put_rollout("asked", shadow, by="ann")
        with pytest.raises(UnknownVersion):
            await put(registry, Wish(Stage.SHADOW, "7"))
        with pytest.raises(InvalidMessage, match="share"):
            await put(registry, Wish(Stage.CANARY, "2", share=2))
        with pytest.raises(NothingUnderWay):
            await registry.handlers.end_rollout("garments", by="ann", reason="")
        assert len(await registry.said(ALIASES_PUBLISHED)) == before


async def test_a_version_that_comes_meanwhile_waits_and_begins_when_the_other_is_withdrawn(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")), run("run-3", better("1")))
        assert (await stage(registry), await registry.aliases()) == ("shadow 2 0", {"champion": "1", "challenger": "3"})
        assert "waits, version 2 is under way (shadow)" in await last_reason(registry)
        with pytest.raises(RolloutUnderWay, match="version 2 is under way"):
            await put(registry, Wish(Stage.SHADOW, "3"))
        await judge(registry, "worse", 60)
        assert (await stage(registry), await registry.aliases()) == ("shadow 3 0", {"champion": "1", "challenger": "3"})


async def test_one_that_was_measured_against_another_champion_goes_on_waiting(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")), run("run-3", better("1")))
        await registry.handlers.promote("garments", "2", by="ann", reason="", force=False)
        await judge(registry, "undecided", 200)
        assert await stage(registry) == ""
        assert (await registry.aliases())["challenger"] == "3"


async def test_a_new_version_does_not_end_what_a_person_began(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1"))
        other = run("run-2")
        await registry.handlers.register_version(candidate_of_run(other))
        await put(registry, Wish(Stage.CANARY, "2", share=0.1))
        await registry.hear(run("run-3", better("1")))
        assert (await stage(registry), (await registry.aliases())["champion"]) == ("canary 2 0.1", "1")


async def test_promoting_the_challenger_ends_the_rollout_and_begins_the_watch(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        after = await registry.handlers.promote("garments", "challenger", by="ann", reason="enough", force=False)
        assert after.rollout is not None
        assert (after.rollout.stage, after.aliases) == (Stage.WATCH, {"champion": "2", "previous": "1"})
        same = await registry.handlers.promote("garments", "2", by="ann", reason="", force=False)
        assert same == after


async def test_a_rollback_ends_whatever_is_under_way(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        await registry.handlers.promote("garments", "2", by="ann", reason="", force=False)
        back = await registry.handlers.roll_back("garments", by="ann", reason="complaints")
        assert (back.rollout, back.aliases) == (None, {"champion": "1", "previous": "2"})
        assert await moved(registry) == [
            *(await moved(registry))[:-3],
            *[("champion", "2", "1"), ("previous", "1", "2"), ("rollout/watch", "2", "")],
        ]


async def test_a_stage_without_a_verdict_is_withdrawn_when_its_hours_are_over(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        begun = await rollout(registry)
        assert begun is not None
        registry.now = begun.stage_since + timedelta(hours=23)
        assert await registry.handlers.end_overdue() == []
        await judge(registry, "undecided", 41)
        registry.now = begun.stage_since + timedelta(hours=24)
        assert await registry.handlers.end_overdue() == ["garments"]
        assert await registry.handlers.end_overdue() == []
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1"})
        assert await last_reason(registry) == "withdrawn: no verdict in 24 hours of shadow (41 pairs)"


async def test_a_watch_whose_hours_are_over_ends_well_but_not_when_it_is_worse(tmp_path: Path) -> None:
    for verdict, champion in (("undecided", "2"), ("worse", "1")):
        async with world(tmp_path / verdict, STAGED) as registry:
            await registry.hear(run("run-1"), run("run-2", better("1")))
            await registry.handlers.promote("garments", "2", by="ann", reason="", force=False)
            registry.now += timedelta(hours=30)
            await judge(registry, verdict, 10)
            assert (await stage(registry), (await registry.aliases())["champion"]) == ("", champion)


async def test_deadlines_are_looked_at_again_and_again_whatever_goes_wrong_once() -> None:
    looks: list[int] = []

    class Away:
        async def end_overdue(self) -> list[str]:
            looks.append(1)
            if len(looks) == 1:
                raise Unavailable("the database is away")
            if len(looks) == 3:
                raise asyncio.CancelledError
            return ["garments"]

    with pytest.raises(asyncio.CancelledError):
        await keep_deadlines(Away(), 0.0)
    assert len(looks) == 3


async def test_a_challenger_that_does_not_load_is_withdrawn(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        await failed(registry, "1")
        await failed(registry, "2", at=START - timedelta(days=1))
        await failed(registry, "2", state=serving_pb2.DEPLOYMENT_STATE_LOADED, at=START + timedelta(hours=2))
        assert await stage(registry) == "shadow 2 0"
        await failed(registry, "2")
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1"})
        assert await last_reason(registry) == "withdrawn: version 2 did not load: out of memory"


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with world(tmp_path, STAGED, broker=broker) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        await judge(registry, "equal", 20)
        await judge(registry, "undecided", 250)
        before = await rollout(registry)
    async with world(tmp_path, STAGED, broker=broker) as registry:
        assert await rollout(registry) == before
        assert before is not None
        assert (before.pairs_before, before.pairs) == (20, 250)
        await judge(registry, "undecided", 319)
        assert await stage(registry) == "canary 2 0.1"
        await judge(registry, "undecided", 320)
        assert await stage(registry) == "canary 2 0.5"


async def test_an_approval_begins_the_rollout(tmp_path: Path) -> None:
    policy = Policy(stages=STAGES, approvals=1)
    async with world(tmp_path, policy) as registry:
        await registry.hear(run("run-1"))
        await registry.handlers.approve("garments", "1", by="ann", approved=True, reason="")
        await registry.hear(run("run-2", better("1")))
        assert (await stage(registry), await registry.aliases()) == ("", {"champion": "1", "challenger": "2"})
        await registry.handlers.approve("garments", "2", by="ann", approved=True, reason="")
        assert await stage(registry) == "shadow 2 0"


async def test_a_judgement_of_a_model_that_nobody_knows_is_noted(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        value = monitor_pb2.ChallengerJudged(model="nobody", rollout_id="x", verdict="worse")
        await registry.bus.publish([Event(CHALLENGER_JUDGED, "nobody", value, "id", START)])
        await failed(registry, "2")
        assert registry.bus.dead_letters(CHALLENGER_JUDGED) == registry.bus.dead_letters(DEPLOYMENT_CHANGED) == []


async def test_a_run_that_failed_begins_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, STAGED) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1"), state=trainer_pb2.RUN_STATE_FAILED))
        assert await stage(registry) == ""
