"""From `asset stored` to `prediction made`, on the bus in memory with real models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ASSET_STORED

from services.common.bus import MemoryBroker
from services.common.database import Database
from services.serving.app import MIGRATIONS
from services.serving.domain.bindings import Binding
from services.serving.outbound.bindings import SqlBindings
from services.serving.outbound.tables import metadata
from tests.unit.serving import tiny
from tests.unit.serving.house import House, asset, camera, picture, serving, settings_of
from tests.waiting import until

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


async def bind(home: Path, *bindings: Binding) -> None:
    """As another replica would, before."""
    async with Database.of(settings_of(home).common, "serving", metadata, MIGRATIONS) as database:
        for binding in bindings:
            await SqlBindings(database).put(binding)


async def publish_versions(house: House, revision: int = 1, **aliases: tuple[str, int]) -> None:
    """Aliases that point at tiny packages: alias = (version, seed); returns once they are followed."""
    packages = {
        alias: (version, await tiny.store(house.objects, house.home, tiny.package_files(seed)))
        for alias, (version, seed) in aliases.items()
    }
    await house.publish(tiny.aliases(revision, **packages))
    await until(lambda: revision in house.revisions())


async def predicted(house: House, count: int) -> Sequence[serving_pb2.Prediction]:
    """The predictions once there are so many, and a moment later still."""
    await until(lambda: len(house.predictions()) >= count)
    await house.quiet()
    return house.predictions()


async def test_an_asset_of_a_bound_camera_gets_one_prediction_with_its_features(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("gate-*",)))
    async with serving(tmp_path) as house:
        await publish_versions(house, champion=("1", 0))
        digest = await house.objects.put(picture(1))
        await house.publish(asset(1, digest, trace=TRACE), asset(2, digest, "door-1"))
        (made,) = await predicted(house, 1)
        assert (made.asset_id, made.camera_id, made.model, made.version) == ("asset-1", "gate-1", "clothes", "1")
        assert (made.role, made.error, made.replica, made.historical) == ("champion", "", "serving-0", False)
        assert made.features.pixels.brightness == pytest.approx(0.5)
        assert made.features.pixels.frame_difference == pytest.approx(0.125)
        embedding = np.random.RandomState(1).randint(0, 256, (4, 4)).ravel() / 255
        logits = embedding @ tiny.weights(0)
        assert made.scores[0].class_name == tiny.CLASSES[int(logits.argmax())]
        assert made.features.embedding_norm == pytest.approx(np.linalg.norm(embedding), rel=1e-5)
        assert made.features.energy == pytest.approx(-np.log(np.exp(logits).sum()), rel=1e-5)
        assert len(made.features.projections) == 8


async def test_the_event_bears_the_assets_partition_time_and_trace(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with serving(tmp_path) as house:
        await publish_versions(house, champion=("1", 0))
        await house.publish(asset(1, await house.objects.put(picture(1)), trace=TRACE, historical=True))
        (made,) = await predicted(house, 1)
        event, stored = house.prediction_events()[0], house.asset_events()[0]
        assert event.record.partition == stored.record.partition
        assert (event.key, event.ce_time, event.ce_id) == ("camera/gate-1", stored.ce_time, made.id)
        assert event.traceparent == TRACE
        assert made.historical
        assert made.captured_at.ToDatetime() == stored.value.asset.captured_at.ToDatetime()


async def test_every_bound_role_whose_alias_is_set_predicts_with_its_own_version(tmp_path: Path) -> None:
    roles = ("champion", "shadow", "challenger")
    await bind(tmp_path, *(Binding("clothes", role, ("*",)) for role in roles))
    async with serving(tmp_path) as house:
        await publish_versions(house, champion=("2", 2), shadow=("1", 1), previous=("1", 1))
        await house.publish(asset(1, await house.objects.put(picture(1))))
        made = await predicted(house, 2)
        assert [(one.role, one.version) for one in made] == [("champion", "2"), ("shadow", "1")]
        assert made[0].features.energy != made[1].features.energy


async def test_a_camera_is_bound_by_its_tags(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", (), {"line": "a"}))
    async with serving(tmp_path) as house:
        await publish_versions(house, champion=("1", 0))
        digest = await house.objects.put(picture(1))
        await house.publish(camera("gate-1", line="a"), camera("door-1", line="b"))
        await until(lambda: house.bound("gate-1"))
        await house.publish(asset(1, digest, "gate-1"), asset(2, digest, "door-1"))
        assert [one.camera_id for one in await predicted(house, 1)] == ["gate-1"]


async def test_what_came_before_there_was_a_champion_is_passed_over(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with serving(tmp_path) as house:
        digest = await house.objects.put(picture(1))
        await house.publish(asset(1, digest))
        await house.quiet()
        await publish_versions(house, champion=("1", 0))
        await house.publish(asset(2, digest))
        assert [one.asset_id for one in await predicted(house, 1)] == ["asset-2"]


async def test_the_same_asset_again_gives_no_second_prediction_also_after_a_restart(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    broker = MemoryBroker()
    async with serving(tmp_path, broker) as house:
        await publish_versions(house, champion=("1", 0))
        digest = await house.objects.put(picture(1))
        await house.publish(asset(1, digest), asset(1, digest), asset(2, digest))
        assert len(await predicted(house, 2)) == 2
        await house.publish(asset(1, digest))
        assert len(await predicted(house, 2)) == 2
    async with serving(tmp_path, broker) as house:
        await house.publish(asset(1, digest), asset(3, digest))
        made = await predicted(house, 3)
        assert [one.asset_id for one in made] == ["asset-1", "asset-2", "asset-3"]


async def test_assets_that_waited_for_a_restart_are_predicted_by_the_champion_and_in_order(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", (), {"line": "a"}))
    broker = MemoryBroker()
    async with serving(tmp_path, broker) as house:
        await publish_versions(house, champion=("1", 0))
        await house.publish(camera("gate-1", line="a"))
        digest = await house.objects.put(picture(1))
    await house.publish(*(asset(number, digest) for number in range(100)))
    async with serving(tmp_path, broker) as house:
        made = await predicted(house, 100)
        assert [one.asset_id for one in made] == [f"asset-{number}" for number in range(100)]


async def test_an_image_that_cannot_be_predicted_is_said_and_does_not_hold_the_others_up(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with serving(tmp_path) as house:
        await publish_versions(house, champion=("1", 0))
        good, text = await house.objects.put(picture(1)), await house.objects.put(b"no image")
        await house.publish(asset(1, text), asset(2, "0" * 64), asset(3, good))
        made = await predicted(house, 3)
        assert [bool(one.error) for one in made] == [True, True, False]
        assert "cannot be decoded" in made[0].error
        assert not made[0].scores
        assert not made[0].features.HasField("entropy")


async def test_an_asset_without_an_id_becomes_a_dead_letter_and_the_others_go_on(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with serving(tmp_path) as house:
        await publish_versions(house, champion=("1", 0))
        digest = await house.objects.put(picture(1))
        broken = asset(1, digest)
        broken.value.asset.id = ""
        await house.publish(broken, asset(2, digest))
        assert [one.asset_id for one in await predicted(house, 1)] == ["asset-2"]
        assert len(house.bus.dead_letters(ASSET_STORED)) == 1


async def test_a_champion_that_cannot_be_loaded_is_an_error_in_the_prediction_and_not_silence(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with serving(tmp_path) as house:
        broken = await tiny.store(house.objects, tmp_path, {**tiny.package_files(), "model.onnx": b"no graph"})
        await house.publish(tiny.aliases(1, champion=("1", broken)))
        await until(lambda: 1 in house.revisions())
        await house.publish(asset(1, await house.objects.put(picture(1))))
        (made,) = await predicted(house, 1)
        assert (made.version, made.role) == ("1", "champion")
        assert "not loaded" in made.error
