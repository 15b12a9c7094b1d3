"""A queue on disk: order, acknowledgement, kills, a bound, damage."""

from __future__ import annotations

from pathlib import Path

from services.serving.outbound.spool import Spool

RECORDS = [f"record {number}".encode() for number in range(1_000)]
SMALL = 4_000
"""Bytes of a segment, some 180 records."""


def drained(spool: Spool, at_once: int = 77) -> list[bytes]:
    """Everything, acknowledged piece by piece."""
    found: list[bytes] = []
    while True:
        records, place = spool.read(at_once)
        if not records:
            return found
        found += records
        spool.acknowledge(place)


def test_what_goes_in_comes_out_in_its_order_and_leaves_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, SMALL)
    spool.append(RECORDS)
    assert len(list(tmp_path.glob("*.log"))) > 3
    assert drained(spool) == RECORDS
    assert len(list(tmp_path.glob("*.log"))) == 1
    spool.append([b"later"])
    assert drained(spool) == [b"later"]


def test_what_was_not_acknowledged_comes_again_after_a_kill_and_the_rest_does_not(tmp_path: Path) -> None:
    first = Spool(tmp_path, 1 << 20, SMALL)
    first.append(RECORDS)
    records, place = first.read(300)
    first.acknowledge(place)
    first.read(300)
    second = Spool(tmp_path, 1 << 20, SMALL)
    second.append([b"new"])
    assert drained(second) == [*RECORDS[300:], b"new"]
    assert records == RECORDS[:300]


def test_a_torn_tail_loses_its_own_record_alone(tmp_path: Path) -> None:
    first = Spool(tmp_path, 1 << 20)
    first.append(RECORDS[:10])
    (segment,) = tmp_path.glob("*.log")
    segment.write_bytes(segment.read_bytes()[:-3])
    second = Spool(tmp_path, 1 << 20)
    second.append([b"new"])
    assert drained(second) == [*RECORDS[:9], b"new"]


def test_a_damaged_record_ends_its_segment_and_no_other(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, SMALL)
    spool.append(RECORDS)
    first, *_ = sorted(tmp_path.glob("*.log"))
    data = bytearray(first.read_bytes())
    data[20] ^= 1
    first.write_bytes(data)
    found = drained(Spool(tmp_path, 1 << 20, SMALL))
    assert found[0] == RECORDS[0]
    assert found[-1] == RECORDS[-1]
    assert len(found) < len(RECORDS)


def test_a_full_spool_gives_up_the_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 3 * SMALL, SMALL)
    for record in RECORDS:
        spool.append([record])
    assert spool.size <= 3 * SMALL
    assert spool.given_up > 0
    assert drained(spool) == RECORDS[spool.given_up :]
