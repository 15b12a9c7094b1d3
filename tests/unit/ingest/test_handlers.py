"""What the handlers do, on a real database and a real folder of objects."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from irisloop.ingest.v1 import ingest_pb2 as pb

from services.common.errors import InvalidMessage
from services.ingest.domain.assets import Judged, Outcome, Status
from services.ingest.errors import ContentGone, UnknownAsset
from services.ingest.outbound.ledger import SqlLedger
from tests.unit.ingest.conftest import House
from tests.unit.ingest.pictures import NOW, frame, jpeg


async def everything(house: House, **filters: str) -> list[str]:
    """Ids of all assets, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await house.ingest.list_assets(
            camera_id=filters.get("camera_id", ""), since=None, cursor=cursor, limit=2
        )
        found += [asset.id for asset in page.rows]
        cursor = page.next_cursor
        if not cursor:
            return found


async def test_a_good_frame_is_stored_listed_and_said(house: House) -> None:
    one = replace(frame(), traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    (outcome,) = await house.ingest.store_frames([one])
    assert outcome.status is Status.STORED
    asset, content = await house.ingest.get_content(one.id)
    assert content == one.image
    assert asset.object.digest == hashlib.sha256(one.image).hexdigest() == outcome.digest
    (said,) = await house.said("asset.stored")
    event = pb.AssetStored.FromString(said.value)
    assert (event.asset.id, said.ce_id, said.key, said.traceparent) == (one.id, one.id, "gate-1", one.traceparent)
    assert event.asset.camera_id == "gate-1"
    assert not event.asset.statistics.HasField("frame_difference")


async def test_a_redelivered_frame_changes_nothing_however_late(house: House) -> None:
    frames = [frame(jpeg(seed=seed)) for seed in range(3)]
    await house.ingest.store_frames(frames)
    before = len(await house.said())
    house.clock.now += timedelta(days=400)
    outcomes = await house.ingest.store_frames([*frames, frame(jpeg(seed=9))])
    assert [outcome.status for outcome in outcomes] == [Status.REDELIVERED] * 3 + [Status.STORED]
    assert len(await house.said()) == before + 1
    assert len(await everything(house)) == 4


async def test_a_rejected_frame_is_kept_counted_and_said_once(house: House) -> None:
    bad = [frame(b"text"), frame(b""), frame(jpeg()[:-9], camera_id="other")]
    for _ in range(2):
        await house.ingest.store_frames(bad)
    page, counts = await house.ingest.list_rejections(camera_id="", since=None, cursor="", limit=0)
    assert counts == {"NOT_AN_IMAGE": 1, "EMPTY": 1, "TRUNCATED": 1}
    assert [rejection.id for rejection in page.rows] == [one.id for one in reversed(bad)]
    assert [row.ce_id for row in await house.said("frame.rejected")] == [one.id for one in bad]
    assert await house.objects.get(page.rows[2].object.digest) == b"text"
    assert await house.objects.get(page.rows[0].object.digest) == jpeg()[:-9]
    cameras = await house.ingest.list_cameras(site="", tags={}, cursor="", limit=0)
    assert cameras.rows == []


async def test_a_frozen_camera_stays_visible(house: House) -> None:
    for _ in range(3):
        await house.ingest.store_frames([frame(jpeg())])
    events = [pb.AssetStored.FromString(row.value).asset for row in await house.said("asset.stored")]
    assert [event.duplicate_of for event in events] == ["", events[0].id, events[0].id]
    assert [event.statistics.frame_difference for event in events] == [0.0, 0.0, 0.0]
    assert [event.statistics.HasField("frame_difference") for event in events] == [False, True, True]
    assert len(house.files()) == 1


async def test_a_crash_between_objects_and_rows_leaves_nothing_wrong(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [frame(jpeg(seed=1)), frame(b"text")]

    async def killed(self: SqlLedger, batch: Sequence[Judged]) -> list[Outcome]:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(SqlLedger, "store", killed)
        with pytest.raises(asyncio.CancelledError):
            await house.ingest.store_frames(frames)
    assert len(house.files()) == 2
    assert await house.said() == []
    outcomes = await house.ingest.store_frames(frames)
    assert [outcome.status for outcome in outcomes] == [Status.STORED, Status.REJECTED]
    assert len(house.files()) == 2
    assert len(await everything(house)) == 1


async def test_a_batch_larger_than_a_portion_is_stored_whole_and_in_order(house: House) -> None:
    frames = [frame(jpeg(200, 150, seed=seed)) for seed in range(12)]
    assert sum(len(one.image) for one in frames) > 2 * house.ingest.portion_bytes
    outcomes = await house.ingest.store_frames(frames)
    assert [outcome.id for outcome in outcomes] == [one.id for one in frames]
    assert await everything(house) == [one.id for one in reversed(frames)]


async def test_pages_do_not_shift_while_frames_arrive(house: House) -> None:
    frames = [frame(jpeg(seed=seed)) for seed in range(6)]
    await house.ingest.store_frames(frames[:4])
    first = await house.ingest.list_assets(camera_id="", since=None, cursor="", limit=2)
    await house.ingest.store_frames(frames[4:])
    second = await house.ingest.list_assets(camera_id="", since=None, cursor=first.next_cursor, limit=2)
    assert [asset.id for asset in (*first.rows, *second.rows)] == [one.id for one in reversed(frames[:4])]
    assert second.next_cursor == ""


async def test_a_reader_follows_since_a_time_oldest_first(house: House) -> None:
    old, new = [frame(jpeg(seed=1))], [frame(jpeg(seed=seed)) for seed in (2, 3, 4)]
    await house.ingest.store_frames(old)
    house.clock.now += timedelta(seconds=10)
    await house.ingest.store_frames(new)
    since = house.clock.now - timedelta(seconds=5)
    first = await house.ingest.list_assets(camera_id="", since=since, cursor="", limit=2)
    rest = await house.ingest.list_assets(camera_id="", since=since, cursor=first.next_cursor, limit=2)
    assert [asset.id for asset in (*first.rows, *rest.rows)] == [one.id for one in new]
    late = await house.ingest.list_assets(camera_id="", since=since + timedelta(days=1), cursor="", limit=2)
    assert (late.rows, late.next_cursor) == ([], "")


async def test_lists_of_one_camera_hold_its_rows_alone(house: House) -> None:
    mine, other = [frame(jpeg(seed=seed)) for seed in range(3)], frame(jpeg(seed=9), camera_id="b")
    await house.ingest.store_frames([mine[0], other, *mine[1:]])
    assert await everything(house, camera_id="gate-1") == [one.id for one in reversed(mine)]


@pytest.mark.parametrize("cursor", ["x", "", "YTpi", "e", "é", "AAAA"])
async def test_a_cursor_that_was_never_given_is_refused(house: House, cursor: str) -> None:
    if not cursor:
        cursor = (await _camera_cursor(house)) or "x"
    with pytest.raises(InvalidMessage):
        await house.ingest.list_assets(camera_id="", since=None, cursor=cursor, limit=1)


async def _camera_cursor(house: House) -> str:
    for name in "ab":
        await house.ingest.put_camera(name, "", {})
    return (await house.ingest.list_cameras(site="", tags={}, cursor="", limit=1)).next_cursor


@pytest.mark.parametrize("limit", [-1, 1001])
async def test_a_limit_out_of_range_is_refused(house: House, limit: int) -> None:
    with pytest.raises(InvalidMessage):
        await house.ingest.list_assets(camera_id="", since=None, cursor="", limit=limit)


async def test_a_camera_says_that_it_changed_only_when_it_did(house: House) -> None:
    await house.ingest.store_frames([frame(), frame(jpeg(seed=2))])
    for _ in range(2):
        camera = await house.ingest.put_camera("gate-1", "north", {"lane": "2"})
    rows = await house.said("camera.changed")
    said = [pb.CameraChanged.FromString(row.value).camera for row in rows]
    assert [(one.site, dict(one.tags)) for one in said] == [("", {}), ("north", {"lane": "2"})]
    assert len({row.ce_id for row in rows}) == 2
    assert (camera.frames, camera.site) == (2, "north")
    await house.ingest.store_frames([frame(jpeg(seed=3))])
    (kept,) = (await house.ingest.list_cameras(site="north", tags={"lane": "2"}, cursor="", limit=0)).rows
    assert (kept.frames, kept.tags) == (3, {"lane": "2"})


async def test_cameras_are_found_by_site_and_all_tags_over_pages(house: House) -> None:
    for number in range(6):
        tags = {"lane": str(number % 2), "kind": "x"}
        await house.ingest.put_camera(f"c{number}", "north" if number < 4 else "south", tags)
    found: list[str] = []
    cursor = ""
    for _ in range(3):
        page = await house.ingest.list_cameras(site="north", tags={"lane": "1", "kind": "x"}, cursor=cursor, limit=1)
        found += [camera.id for camera in page.rows]
        cursor = page.next_cursor
        if not cursor:
            break
    assert found == ["c1", "c3"]


async def test_a_deleted_asset_is_gone_said_and_stays_gone(house: House) -> None:
    one = frame(camera_id="gate/7")
    await house.ingest.store_frames([one])
    await house.ingest.delete_asset(one.id, reason="asked to", by="ann")
    assert house.files() == []
    (row,) = await house.said("asset.deleted")
    event = pb.AssetDeleted.FromString(row.value)
    assert (event.asset_id, event.camera_id, event.reason, event.deleted_by) == (one.id, "gate/7", "asked to", "ann")
    with pytest.raises(UnknownAsset):
        await house.ingest.get_asset(one.id)
    with pytest.raises(UnknownAsset):
        await house.ingest.delete_asset(one.id, reason="", by="ann")
    (again,) = await house.ingest.store_frames([one])
    assert again.status is Status.REDELIVERED
    assert await everything(house) == []


async def test_an_object_stays_while_another_asset_uses_it(house: House) -> None:
    first, second = frame(jpeg()), frame(jpeg())
    await house.ingest.store_frames([first, second])
    await house.ingest.delete_asset(first.id, reason="", by="ann")
    _, content = await house.ingest.get_content(second.id)
    assert content == jpeg()
    await house.ingest.delete_asset(second.id, reason="", by="ann")
    assert house.files() == []
    third = frame(jpeg())
    (outcome,) = await house.ingest.store_frames([third])
    assert outcome.status is Status.STORED
    assert (await house.ingest.get_content(third.id))[1] == jpeg()


async def test_a_removal_that_was_cut_off_is_finished_later(house: House) -> None:
    gone, back = frame(jpeg(seed=1)), frame(jpeg(seed=2))
    await house.ingest.store_frames([gone, back])
    for one in (gone, back):
        await house.ingest.ledger.delete_asset(one.id, reason="", by="ann", at=NOW)
    again = frame(jpeg(seed=2))
    await house.ingest.store_frames([again])
    await house.ingest.finish_removals()
    assert len(house.files()) == 1
    assert (await house.ingest.get_content(again.id))[1] == jpeg(seed=2)
    assert await house.ingest.ledger.removals() == []


async def test_bytes_that_vanished_are_said_to_be_gone(house: House) -> None:
    one = frame()
    (outcome,) = await house.ingest.store_frames([one])
    await house.objects.delete(outcome.digest)
    with pytest.raises(ContentGone):
        await house.ingest.get_content(one.id)


async def test_batches_side_by_side_lose_and_double_nothing(house: House) -> None:
    frames = [frame(jpeg(seed=seed % 7), camera_id=f"c{seed % 3}") for seed in range(60)]
    batches = [frames[start : start + 15] for start in range(0, 60, 10)]
    results = await asyncio.gather(*(house.ingest.store_frames(batch) for batch in batches))
    statuses = [outcome.status for outcomes in results for outcome in outcomes]
    assert sum(status is not Status.REDELIVERED for status in statuses) == 60
    assert len(await everything(house)) == len(await house.said("asset.stored")) == 60
    cameras = (await house.ingest.list_cameras(site="", tags={}, cursor="", limit=0)).rows
    assert sum(camera.frames for camera in cameras) == 60
    assert len(house.files()) == 7
