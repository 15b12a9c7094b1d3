"""Promise 4: the same again is not the same picture again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.ingest.domain.assets import Camera, Judged, Status
from services.ingest.domain.inspection import Limits, inspect
from services.ingest.domain.settlement import Known, Settlement, settle
from tests.unit.ingest.pictures import NOW, frame, jpeg

NOTHING = Known(frozenset(), {}, {})
DAY = timedelta(days=1)


def judged(image: bytes, **fields: object) -> Judged:
    one = frame(image, **fields)  # type: ignore[arg-type]  # passed on as it is
    (verdict,) = inspect([one], Limits())
    return Judged(one, verdict, str(hash(image)))


def settled(*batch: Judged, known: Known = NOTHING) -> Settlement:
    return settle(batch, known, at=NOW, historical_after=DAY)


def test_the_same_frame_twice_in_a_batch_is_stored_once() -> None:
    one = judged(jpeg(), id="a")
    result = settled(one, one)
    assert [outcome.status for outcome in result.outcomes] == [Status.STORED, Status.REDELIVERED]
    assert result.cameras["gate-1"].frames == 1


def test_a_frame_that_was_handled_before_is_dropped_with_its_effect_on_the_camera() -> None:
    result = settled(judged(jpeg(), id="a"), known=Known({"a"}, {}, {}))
    assert [outcome.status for outcome in result.outcomes] == [Status.REDELIVERED]
    assert (result.assets, result.cameras, result.registered) == ([], {}, [])


def test_the_same_pixels_again_are_a_new_asset_that_names_the_first() -> None:
    result = settled(judged(jpeg(), id="a"), judged(jpeg(), id="b"), judged(jpeg(), id="c"))
    assert [asset.duplicate_of for asset, _ in result.assets] == ["", "a", "a"]
    assert [outcome.status for outcome in result.outcomes] == [Status.STORED, Status.DUPLICATE, Status.DUPLICATE]
    assert [asset.statistics.frame_difference for asset, _ in result.assets] == [None, 0.0, 0.0]


def test_pixels_known_from_earlier_batches_name_the_first_asset() -> None:
    one = judged(jpeg(), id="b")
    result = settled(one, known=Known(frozenset(), {one.digest: "a"}, {}))
    assert result.assets[0][0].duplicate_of == "a"


def test_a_rejected_frame_registers_no_camera() -> None:
    result = settled(judged(b"text"))
    assert (result.registered, result.cameras) == ([], {})
    assert len(result.rejections) == 1


def test_a_camera_is_registered_once_by_its_first_good_frame() -> None:
    result = settled(judged(b"text"), judged(jpeg(seed=1)), judged(jpeg(seed=2)))
    assert result.registered == ["gate-1"]
    assert result.cameras["gate-1"].frames == 2


def test_difference_goes_on_from_the_cameras_last_thumbnail() -> None:
    first, second = judged(jpeg(seed=1), id="a"), judged(jpeg(seed=9), id="b")
    together = settled(first, second).assets[1][0].statistics.frame_difference
    camera = settled(first).cameras["gate-1"]
    apart = settled(second, known=Known({"a"}, {}, {"gate-1": camera})).assets[0][0].statistics.frame_difference
    assert apart == together
    assert apart is not None
    assert apart > 0


def test_cameras_are_chained_apart() -> None:
    result = settled(
        judged(jpeg(seed=1), camera_id="a"), judged(jpeg(seed=2), camera_id="b"), judged(jpeg(seed=1), camera_id="a")
    )
    assert [asset.statistics.frame_difference for asset, _ in result.assets] == [None, None, 0.0]


@pytest.mark.parametrize(("age", "historical"), [(timedelta(hours=23), False), (timedelta(hours=25), True)])
def test_a_frame_that_arrives_late_is_history(age: timedelta, historical: bool) -> None:
    result = settled(judged(jpeg(), captured_at=NOW - age))
    assert result.assets[0][0].historical is historical


def test_last_frame_of_a_camera_never_goes_back() -> None:
    camera = Camera("gate-1", NOW, last_frame_at=NOW + DAY)
    result = settled(judged(jpeg()), known=Known(frozenset(), {}, {"gate-1": camera}))
    assert result.cameras["gate-1"].last_frame_at == NOW + DAY
