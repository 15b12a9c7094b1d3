"""A queue on disk between two processes: order, acknowledgement, kills, a bound, damage."""

from __future__ import annotations

from pathlib import Path

from services.serving.outbound.spool import SUFFIX, SpoolReader, SpoolWriter, position

RECORDS = [f"record {number}".encode() for number in range(1_000)]
SMALL = 4_000
"""Bytes of a segment, some 180 records."""


def writer(folder: Path, limit: int = 1 << 20) -> SpoolWriter:
    return SpoolWriter(folder, limit, lambda record: 1, SMALL)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def drained(spool: SpoolReader, at_once: int = 77) -> list[bytes]:
    """Everything, acknowledged piece by piece."""
    found: list[bytes] = []
    while True:
        records, place = spool.read(at_once)
        if not records:
            return found
        found += records
        spool.acknowledge(place, len(records))


def test_what_goes_in_comes_out_in_its_order_and_leaves_the_disk(tmp_path: Path) -> None:
    spool, reader = writer(tmp_path), SpoolReader(tmp_path)
    spool.append(RECORDS)
    assert len(segments(tmp_path)) > 3
    assert drained(reader) == RECORDS
    assert len(segments(tmp_path)) == 1
    spool.append([b"later"])
    assert drained(reader) == [b"later"]
    assert (spool.size(), position(tmp_path).done) == (0, 1_001)


def test_what_was_not_acknowledged_comes_again_after_a_kill_and_the_rest_does_not(tmp_path: Path) -> None:
    writer(tmp_path).append(RECORDS)
    first = SpoolReader(tmp_path)
    records, place = first.read(300)
    first.acknowledge(place, 300)
    first.read(300)
    writer(tmp_path).append([b"new"])
    assert drained(SpoolReader(tmp_path)) == [*RECORDS[300:], b"new"]
    assert records == RECORDS[:300]
    assert position(tmp_path).done == 1_001


def test_a_reader_goes_back_to_what_was_acknowledged(tmp_path: Path) -> None:
    writer(tmp_path).append(RECORDS)
    spool = SpoolReader(tmp_path)
    _, place = spool.read(200)
    spool.acknowledge(place, 200)
    spool.read(500)
    spool.back()
    assert drained(spool) == RECORDS[200:]


def test_a_reader_beside_the_writer_misses_nothing(tmp_path: Path) -> None:
    spool, reader = writer(tmp_path), SpoolReader(tmp_path)
    found: list[bytes] = []
    for start in range(0, 1_000, 10):
        spool.append(RECORDS[start : start + 10])
        records, place = reader.read(7)
        found += records
        reader.acknowledge(place, len(records))
    assert found + drained(reader) == RECORDS


def test_a_torn_tail_loses_its_own_record_alone(tmp_path: Path) -> None:
    writer(tmp_path).append(RECORDS[:10])
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-3])
    writer(tmp_path).append([b"new"])
    assert drained(SpoolReader(tmp_path)) == [*RECORDS[:9], b"new"]


def test_a_damaged_record_ends_its_segment_and_no_other(tmp_path: Path) -> None:
    writer(tmp_path).append(RECORDS)
    first, *_ = segments(tmp_path)
    data = bytearray(first.read_bytes())
    data[20] ^= 1
    first.write_bytes(data)
    found = drained(SpoolReader(tmp_path))
    assert found[-1] == RECORDS[-1]
    assert 100 < len(found) < len(RECORDS)


def test_a_full_spool_gives_up_the_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = writer(tmp_path, 3 * SMALL)
    for record in RECORDS:
        spool.append([record])
    assert 0 < spool.size() <= 3 * SMALL
    assert spool.given_up > 0
    assert drained(SpoolReader(tmp_path)) == RECORDS[spool.given_up :]
