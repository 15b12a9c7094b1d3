"""Splits: an asset never changes sides, near frames and duplicates stay together, small numbers are divided fairly."""

from __future__ import annotations

from collections import Counter

from services.labeling.domain.model import Asset
from services.labeling.domain.splits import Splits
from tests.unit.labeling.world import SECOND, START, asset


def live(count: int, *, first: int = 0, gap: int = 3 * SECOND) -> list[Asset]:
    return [asset(f"live-{n}", "gate-1", START + n * gap) for n in range(first, first + count)]


def test_four_hundred_labels_of_a_new_condition_leave_at_least_eighty_to_judge_by() -> None:
    sides = Counter(Splits("garments", ()).assign(live(400)))
    assert sides["test"] >= 80
    assert sides["train"] >= 270
    assert sides["validation"] >= 28


def test_near_frames_stay_together() -> None:
    frames = live(400, gap=SECOND // 5)
    sides = Splits("garments", ()).assign(frames)
    groups: dict[int, set[str]] = {}
    for frame, side in zip(frames, sides, strict=True):
        groups.setdefault(frame.captured_at // (2 * SECOND), set()).add(side)
    assert all(len(found) == 1 for found in groups.values())
    assert len(set(sides)) == 3


def test_an_asset_keeps_its_side_in_later_versions_and_new_ones_are_divided_as_before() -> None:
    first = Splits("garments", ())
    old = live(200)
    sides = dict(zip([one.id for one in old], first.assign(old), strict=True))
    second = Splits("garments", first.added.items())
    more = [*live(200), *live(200, first=200)]
    later = dict(zip([one.id for one in more], second.assign(more), strict=True))
    assert {name: later[name] for name in sides} == sides
    counts = Counter(later.values())
    assert abs(counts["test"] - 88) <= 2
    assert set(second.added).isdisjoint(first.added)


def test_duplicates_share_a_side_across_cameras_and_versions() -> None:
    first = Splits("garments", ())
    originals = [asset(f"o-{n}", "import/first", START, content=f"c-{n}") for n in range(100)]
    sides = first.assign(originals)
    copies = [asset(f"c-{n}", "gate-1", START + n * 60 * SECOND, content=f"c-{n}") for n in range(100)]
    assert Splits("garments", first.added.items()).assign(copies) == sides
    together = Splits("garments", ()).assign([*originals, *copies])
    assert together[:100] == together[100:]


def test_the_same_assets_in_any_order_are_divided_the_same_and_datasets_differ() -> None:
    frames = live(100)
    one = dict(zip([frame.id for frame in frames], Splits("a", ()).assign(frames), strict=True))
    back = dict(zip([frame.id for frame in frames[::-1]], Splits("a", ()).assign(frames[::-1]), strict=True))
    other = dict(zip([frame.id for frame in frames], Splits("b", ()).assign(frames), strict=True))
    assert one == back
    assert one != other
