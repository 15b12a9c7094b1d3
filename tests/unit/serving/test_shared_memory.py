"""Regions of shared memory: seen without a copy, never beyond what was registered, safe when a segment shrinks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.serving.domain.ports import RegionStatus
from services.serving.domain.tensors import Region
from services.serving.errors import BadRequest, RegionTaken, UnknownRegion, Unsupported
from services.serving.handlers.shared_memory import SharedMemory
from services.serving.outbound.shared_memory import SystemRegions

SIZE = 10_000


@pytest.fixture
def regions(tmp_path: Path) -> SystemRegions:
    (tmp_path / "segment").write_bytes(bytes(range(250)) * 40)
    return SystemRegions(tmp_path)


def test_bytes_are_seen_where_they_lie_and_written_back(regions: SystemRegions, tmp_path: Path) -> None:
    regions.register("r", "/segment", 5_000, 1_000)
    view = regions.read(Region("r", 10, 250))
    assert bytes(view) == bytes(range(10))
    with (tmp_path / "segment").open("r+b") as file:
        file.seek(5_250)
        file.write(b"\xff")
    assert view[0] == 0xFF
    assert view.readonly
    regions.write(Region("r", 4, 0), b"abcd")
    assert (tmp_path / "segment").read_bytes()[5_000:5_004] == b"abcd"
    assert regions.status() == [RegionStatus("r", "/segment", 5_000, 1_000)]


@pytest.mark.parametrize(
    ("key", "offset", "size"),
    [
        ("/nobody", 0, 10),
        ("", 0, 10),
        ("/../segment", 0, 10),
        ("/a/b", 0, 10),
        ("/segment", 0, SIZE + 1),
        ("/segment", SIZE, 1),
        ("/segment", SIZE - 5, 6),
        ("/segment", 0, 0),
        ("/segment", -1, 10),
        ("/segment", 0, 2**63),
        ("/segment", 2**63, 10),
    ],
)
def test_what_does_not_lie_in_a_segment_is_not_registered(
    regions: SystemRegions, key: str, offset: int, size: int
) -> None:
    with pytest.raises(BadRequest):
        regions.register("r", key, offset, size)
    assert regions.status() == []


@pytest.mark.parametrize(
    "region",
    [Region("r", 101, 0), Region("r", 1, 100), Region("r", 50, 51), Region("r", 0, 0), Region("r", 2**62, 2**62)],
)
def test_a_call_never_reaches_beyond_what_was_registered(regions: SystemRegions, region: Region) -> None:
    regions.register("r", "segment", 0, 100)
    with pytest.raises(BadRequest, match="Invalid offset"):
        regions.read(region)
    with pytest.raises(BadRequest):
        regions.write(region, b"x")


def test_a_segment_that_was_cut_is_refused_instead_of_ending_the_process(
    regions: SystemRegions, tmp_path: Path
) -> None:
    regions.register("r", "segment", 0, SIZE)
    os.truncate(tmp_path / "segment", 100)
    with pytest.raises(BadRequest, match="Invalid offset"):
        regions.read(Region("r", 200, 0))
    assert len(regions.read(Region("r", 100, 0))) == 100


def test_a_region_that_is_unregistered_while_it_is_read_stays_readable(regions: SystemRegions) -> None:
    regions.register("r", "segment", 0, SIZE)
    view = regions.read(Region("r", 10, 0))
    regions.unregister("r")
    assert bytes(view) == bytes(range(10))
    with pytest.raises(UnknownRegion):
        regions.read(Region("r", 10, 0))


def test_names_are_registered_once_and_forgotten_alone_or_together(regions: SystemRegions) -> None:
    for name in ("a", "b", "c"):
        regions.register(name, "segment", 0, 10)
    with pytest.raises(RegionTaken, match="already in manager"):
        regions.register("a", "segment", 0, 10)
    regions.unregister("a")
    regions.unregister("a")
    assert [one.name for one in regions.status()] == ["b", "c"]
    with pytest.raises(UnknownRegion):
        regions.status("a")
    regions.unregister()
    assert regions.status() == []


def test_an_answer_that_is_too_large_for_its_region_says_so(regions: SystemRegions) -> None:
    regions.register("r", "segment", 0, 100)
    with pytest.raises(BadRequest, match=r"\(8 bytes\) should be at least 9 bytes"):
        regions.write(Region("r", 8, 0), b"123456789")


def test_shared_memory_can_be_switched_off(regions: SystemRegions) -> None:
    with pytest.raises(Unsupported, match="switched off"):
        SharedMemory(regions, offered=False).register("r", "segment", 0, 10)
