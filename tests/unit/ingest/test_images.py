"""Headers are read as the formats' standards say, and broken ones are told apart from foreign ones."""

from __future__ import annotations

import pytest

from services.ingest.domain.images import BrokenHeader, read_header, sniff
from tests.unit.ingest.pictures import encoded, jpeg


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_sides_are_read_from_the_header(form: str) -> None:
    header = read_header(encoded(form, 123, 45))
    assert header is not None
    assert (header.width, header.height, header.content_type) == (123, 45, f"image/{form.lower()}")


def test_sides_of_a_lossless_webp_are_read() -> None:
    header = read_header(encoded("WEBP", 300, 20, lossless=True))
    assert header is not None
    assert (header.width, header.height) == (300, 20)


def test_channels_and_progression_of_a_jpeg_are_read() -> None:
    grey, progressive = read_header(jpeg(grey=True)), read_header(encoded("JPEG", progressive=True))
    assert grey is not None
    assert progressive is not None
    assert (grey.channels, grey.progressive, progressive.channels, progressive.progressive) == (1, False, 3, True)


@pytest.mark.parametrize("cut", range(4, 160, 7))
def test_a_header_that_ends_early_is_broken_not_foreign(cut: int) -> None:
    for form in ("JPEG", "PNG", "WEBP"):
        data = encoded(form)[:cut]
        if sniff(data) is None:
            continue
        try:
            header = read_header(data)
        except BrokenHeader:
            continue
        assert header is not None


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"RIFF\x00\x00\x00\x00WAVE", b"<svg>", b"\x00" * 64])
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert read_header(data) is None


def test_a_jpeg_segment_without_a_length_is_broken() -> None:
    with pytest.raises(BrokenHeader):
        read_header(b"\xff\xd8\xff\xe0\x00\x00" + bytes(40))
