"""What a query may be, by the text that the engine's parser writes back; and Native for newer clients."""

from __future__ import annotations

import pytest

from services.monitor.domain.sql import check
from services.monitor.errors import QueryFailed
from services.monitor.inbound import native, sql_request
from services.monitor.inbound.native import UnknownLayout

REFUSED = frozenset({"file", "url"})


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("SELECT 1", ""),
        ("SELECT 1 FORMAT CSV", "CSV"),
        ("SELECT 1 FORMAT `Null` SETTINGS max_threads = 1", "Null"),
        ("SELECT 'x FORMAT CSV'", ""),
        ("SELECT * FROM (SELECT 1 AS `FORMAT`)", ""),
        ("SELECT file, url AS file FROM t AS url", ""),
        ("SELECT 'file(1) INTO OUTFILE' AS x", ""),
        ("SELECT parallel FROM t GROUP BY parallel WITH TOTALS", ""),
        ("(SELECT 1) UNION ALL (SELECT 2)", ""),
        ('SELECT `camera\'s "error" (%)` FROM t', ""),
        ("SHOW CREATE TABLE `default`.predictions", ""),
    ],
)
def test_what_only_reads_tables_passes_and_names_its_format(text: str, form: str) -> None:
    assert check(text, REFUSED) == form


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("INSERT INTO t SELECT 1", 164),
        ("KILL QUERY WHERE 1", 164),
        ("`SELECT` 1", 164),
        ("SELECT 1 INTO OUTFILE 'x'", 164),
        ("SELECT 1 PARALLEL WITH KILL QUERY WHERE 1", 164),
        ("SELECT File('x')", 497),
        ("SELECT `file`('x')", 497),
        ("SELECT * APPLY(file)", 497),
        ("SELECT * APPLY file", 497),
        ("DESCRIBE TABLE `/etc/passwd`", 497),
        ("EXISTS TABLE {x:Identifier}", 497),
    ],
)
def test_what_does_more_is_refused_with_clickhouses_code(text: str, code: int) -> None:
    with pytest.raises(QueryFailed) as refused:
        check(text, REFUSED)
    assert refused.value.code == code


def test_native_gets_what_newer_clients_expect_around_each_block_and_column() -> None:
    kind = b"\x02a" + b"\x06String"
    block = b"\x01\x02\x01" + kind[1:2] + kind[2:] + b"\x01x\x02yz"
    assert native.as_revision(block, 0) == block
    info = b"\x01\x00\x02\xff\xff\xff\xff\x00"
    assert native.as_revision(block, 54_405) == info + block
    newer = native.as_revision(block + block, 54_460)
    assert newer == (info + block[:11] + b"\x00" + block[11:]) * 2
    assert native.as_revision(b"", 54_460) == b""


@pytest.mark.parametrize("kind", [b"AggregateFunction(sum, UInt8)", b"Array(String)", b"JSON"])
def test_native_that_is_not_known_is_said_and_not_guessed(kind: bytes) -> None:
    with pytest.raises(UnknownLayout):
        native.as_revision(b"\x01\x01\x01a" + bytes([len(kind)]) + kind + b"\x01", 54_460)


def test_gzip_is_given_to_who_takes_it() -> None:
    for asked, given in (("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("zstd", False), ("", False)):
        request = sql_request.read("GET", b"query=SELECT+1", {"accept-encoding": asked}, b"")
        assert request.gzip is given, asked


def test_a_body_that_unpacks_to_more_than_a_query_is_refused() -> None:
    import gzip

    bomb = gzip.compress(b" " * 50_000_000)
    with pytest.raises(QueryFailed) as refused:
        sql_request.read("POST", b"", {"content-encoding": "gzip"}, bomb)
    assert refused.value.code == 229
    with pytest.raises(QueryFailed):
        sql_request.read("POST", b"", {"content-encoding": "gzip"}, b"no gzip")
    with pytest.raises(QueryFailed):
        sql_request.read("POST", b"query_id=a%0d%0ab", {}, b"SELECT 1")
