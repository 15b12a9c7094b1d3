"""Bodies: limits that hold before memory is spent, compression in both directions, and damage."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from typing import Any

import pytest

from services.serving.errors import BadRequest
from services.serving.inbound.v2.bodies import QUICK, Gone, Receive, compressed, inflated, read_body
from services.serving.inbound.v2.errors import HttpError

LIMIT = 1000


def sent(*parts: bytes, whole: bool = True) -> Receive:
    """What a server would hand on."""
    messages: Iterable[dict[str, Any]] = iter(
        [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        + [{"type": "http.request"} if whole else {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, Any]:
        return next(iter(messages))

    return receive


async def test_a_body_in_pieces_is_put_together() -> None:
    assert await read_body(sent(b"ab", b"", b"c"), LIMIT) == b"abc"
    assert await read_body(sent(), LIMIT) == b""


async def test_a_body_of_just_the_limit_is_taken_and_one_more_byte_is_not() -> None:
    assert len(await read_body(sent(bytes(LIMIT)), LIMIT)) == LIMIT
    with pytest.raises(HttpError, match="larger than 1000 bytes") as refused:
        await read_body(sent(bytes(LIMIT), b"x"), LIMIT)
    assert refused.value.status == 413


@pytest.mark.parametrize("declared", [b"1001", b"9" * 5000])
async def test_a_body_that_says_it_is_too_large_is_refused_unread(declared: bytes) -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("it was read")

    with pytest.raises(HttpError) as refused:
        await read_body(receive, LIMIT, declared)
    assert refused.value.status == 413


async def test_a_body_that_breaks_off_has_nobody_to_be_told() -> None:
    with pytest.raises(Gone):
        await read_body(sent(b"ab", whole=False), LIMIT)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", gzip.compress)],
)
async def test_gzip_and_deflate_are_read(encoding: str, pack: Any) -> None:
    assert await inflated(pack(b"word" * 100), encoding, LIMIT) == b"word" * 100


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_few_bytes_that_become_too_many_are_refused(encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    assert len(await inflated(pack(bytes(LIMIT)), encoding, LIMIT)) == LIMIT
    with pytest.raises(HttpError) as refused:
        await inflated(pack(bytes(LIMIT + 1)), encoding, LIMIT)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"word", "is not gzip"),
        (b"", "truncated"),
        (gzip.compress(b"word")[:-1], "truncated"),
        (gzip.compress(b"word") + b"more", "bytes follow the end"),
        (gzip.compress(b"word")[:-5] + b"\0" * 5, "is not gzip"),
    ],
)
async def test_damage_is_named(body: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        await inflated(body, "gzip", LIMIT)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
async def test_another_encoding_is_not_offered(encoding: str) -> None:
    with pytest.raises(HttpError, match="Unsupported compression type") as refused:
        await inflated(b"word", encoding, LIMIT)
    assert (refused.value.status, refused.value.headers) == (501, ((b"accept-encoding", b"gzip, deflate"),))


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        *(("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate", "gzip"), ("br, gzip", "gzip"), ("GZIP", "gzip")),
        *(("deflate, gzip;q=0.5", "deflate"), ("gzip;q=0", ""), ("gzip;q=0.0, deflate", "deflate")),
        *(("identity", ""), ("*", ""), ("", ""), ("br", "")),
    ],
)
async def test_the_first_encoding_that_we_have_is_chosen(accepted: str, chosen: str) -> None:
    parts, encoding = await compressed([b"word", memoryview(b"more")], accepted)
    assert encoding == chosen
    found = b"".join(parts)
    assert (zlib.decompress(found, wbits=47) if chosen else found) == b"wordmore"


async def test_a_large_answer_is_compressed_too() -> None:
    parts, _ = await compressed([bytes(QUICK), b"end"], "gzip")
    assert gzip.decompress(b"".join(parts)) == bytes(QUICK) + b"end"
