"""A finished run is judged once, on its evidence, and what follows from it is said in order and in one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.topics import ALIAS_MOVED, ALIASES_PUBLISHED, RUN_FINISHED, VERSION_JUDGED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import MemoryBroker, Topic
from services.registry import queries
from services.registry.domain.model import VersionState
from services.registry.domain.policy import Policy
from services.registry.domain.ports import Ledger
from services.registry.wire import candidate_of_run
from tests.unit.registry.world import FIRST, START, TRACE, aliases_of, better, finished, report, run, world


async def test_a_first_version_goes_live_and_everybody_is_told_in_order(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.bus.publish([finished(run())])
        await registry.bus.settle()
        rows = await registry.waiting()
        assert [row.topic for row in rows] == [VERSION_JUDGED.name, ALIAS_MOVED.name, ALIASES_PUBLISHED.name]
        assert {row.key for row in rows} == {"garments"}

        (judged,) = await registry.said(VERSION_JUDGED)
        assert (judged.judged_by, judged.request_id) == ("policy", "request-of-run-1")
        assert (judged.version.version, judged.version.state) == ("1", pb.VERSION_STATE_ACCEPTED)
        assert judged.version.report == FIRST
        assert "first_accuracy: 0.9" in judged.reason
        (moved,) = await registry.said(ALIAS_MOVED)
        assert (moved.move.alias, moved.move.from_version, moved.move.to_version) == ("champion", "", "1")
        (published,) = await registry.said(ALIASES_PUBLISHED)
        assert published.revision == 1
        assert [alias.name for alias in published.aliases] == ["champion"]
        assert published.aliases[0].version == judged.version


async def test_a_better_version_takes_over_and_the_old_one_stays_in_shadow(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")))
        assert await registry.aliases() == {"champion": "2", "previous": "1", "shadow": "1"}
        published = (await registry.said(ALIASES_PUBLISHED))[-1]
        assert published.revision == 2
        digests = {alias.name: alias.version.package.digest for alias in published.aliases}
        assert digests["champion"] == run("run-2").package.digest
        assert digests["previous"] == digests["shadow"] == run("run-1").package.digest
        assert all(alias.version.class_names == ["coat", "boot"] for alias in published.aliases)
        assert all(alias.version.package.signature for alias in published.aliases)


async def test_a_worse_version_is_refused_with_every_reason_and_nothing_moves(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1", gain=0.0, loss=0.5)))
        judged = (await registry.said(VERSION_JUDGED))[-1]
        assert judged.version.state == pb.VERSION_STATE_REFUSED
        assert [gate.gate for gate in judged.version.gates if not gate.passed] == ["better_on_new", "not_worse_on_old"]
        assert "better_on_new: 0 (limit 0.02" in judged.reason and "not_worse_on_old: 0.5" in judged.reason
        assert await registry.aliases() == {"champion": "1"}
        assert len(await registry.said(ALIASES_PUBLISHED)) == 1


async def test_a_run_that_was_measured_against_a_past_champion_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1"), run("run-2", better("1")), run("run-3", better("1")), run("run-4", FIRST))
        states = [judged.version.state for judged in await registry.said(VERSION_JUDGED)]
        assert states == [pb.VERSION_STATE_ACCEPTED] * 2 + [pb.VERSION_STATE_REFUSED] * 2
        assert (await registry.aliases())["champion"] == "2"


async def test_a_replayed_run_changes_nothing_and_says_nothing(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with world(tmp_path, broker=broker) as registry:
        await registry.hear(run(), run())
        await registry.hear(run())
        assert len(await registry.said(VERSION_JUDGED)) == 1
    broker.committed.clear()
    async with world(tmp_path, broker=broker) as registry:
        await registry.settle()
        await registry.hear(run())
        assert len(await registry.said(VERSION_JUDGED)) == 1
        assert len(await registry.said(ALIASES_PUBLISHED)) == 1
        assert len(await registry.handlers.ledgers.read(lambda ledger: ledger.versions("garments"))) == 1


async def test_a_judgement_that_is_cut_off_leaves_nothing_half_done(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1"))
        before = await registry.waiting()
        work = registry.handlers

        def cut_off(ledger: Ledger) -> None:
            work._judge_run(ledger, candidate_of_run(run("run-2", better("1"))), START)
            assert ledger.model("garments").aliases["champion"] == "2"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await work.ledgers.transact(cut_off)
        assert await registry.waiting() == before
        assert await registry.aliases() == {"champion": "1"}
        page = await queries.history(work.ledgers, "garments", limit=9, cursor="", since=None)
        assert len(page.moves) == 1
        await registry.hear(run("run-2", better("1")))
        assert (await registry.aliases())["champion"] == "2"


async def test_models_are_judged_apart(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1", model="garments"), run("run-2", model="gates"))
        assert await registry.aliases("garments") == await registry.aliases("gates") == {"champion": "1"}
        published = await registry.said(ALIASES_PUBLISHED)
        assert [(one.model, one.revision, aliases_of(one)) for one in published] == [
            ("garments", 1, {"champion": "1"}),
            ("gates", 1, {"champion": "1"}),
        ]


@pytest.mark.parametrize("state", [trainer_pb2.RUN_STATE_FAILED, trainer_pb2.RUN_STATE_CANCELLED])
async def test_a_run_without_success_offers_nothing(tmp_path: Path, state: Any) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run(state=state))
        assert await registry.waiting() == []
        assert await registry.said(VERSION_JUDGED) == []
        assert registry.bus.dead_letters(RUN_FINISHED) == []


async def test_a_success_without_a_package_becomes_a_dead_letter_and_the_next_is_judged(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        nameless, packageless = run("x"), run("run-1")
        nameless.id = ""
        packageless.package.digest = ""
        await registry.hear(nameless, packageless, run("run-2"))
        assert len(registry.bus.dead_letters(RUN_FINISHED)) == 2
        assert [one.version.run_id for one in await registry.said(VERSION_JUDGED)] == ["run-2"]


async def test_events_bear_the_trace_and_the_time_of_their_own_run(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        other = TRACE.replace("ab", "12")
        await registry.bus.publish([finished(run("run-1"), TRACE), finished(run("run-2", better("1")), other)])
        await registry.settle()
        topics: tuple[Topic[Any], ...] = (VERSION_JUDGED, ALIASES_PUBLISHED)
        for topic in topics:
            said = registry.bus.events(topic)
            assert [delivery.traceparent.split("-")[1] for delivery in said] == ["ab" * 16, "12" * 16]
            assert {delivery.ce_time for delivery in said} == {finished(run()).ce_time}


async def test_a_policy_without_promotion_makes_a_challenger(tmp_path: Path) -> None:
    async with world(tmp_path, Policy(auto_promote=False)) as registry:
        await registry.hear(run("run-1"))
        assert await registry.aliases() == {"challenger": "1"}
        await registry.handlers.promote("garments", "challenger", by="ann", reason="looks well", force=False)
        assert await registry.aliases() == {"champion": "1"}


async def test_a_model_takes_the_first_policy_of_its_name(tmp_path: Path) -> None:
    strict = Policy(models="gates*", first_accuracy=0.95)
    async with world(tmp_path, strict, Policy()) as registry:
        await registry.hear(run("run-1", model="gates-north"), run("run-2", model="garments"))
        judged = await registry.said(VERSION_JUDGED)
        assert [one.version.state for one in judged] == [pb.VERSION_STATE_REFUSED, pb.VERSION_STATE_ACCEPTED]


async def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as registry:
        await registry.hear(run("run-1", trainer_pb2.EvaluationReport()), run("run-2", report({"all": (0, 1.0)})))
        for version in await registry.handlers.ledgers.read(lambda ledger: ledger.versions("garments")):
            assert version.state is VersionState.REFUSED
