"""What is let in and what is refused, for what reason, before and after decoding."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from services.ingest.domain import inspection
from services.ingest.domain.inspection import Limits, Picture, Reason, Refusal, inspect, judge_header
from tests.unit.ingest.pictures import (
    NOW,
    encoded,
    frame,
    jpeg,
    jpeg_that_declares,
    png_that_declares,
)

LIMITS = Limits()

BAD = {
    "empty": (b"", Reason.EMPTY),
    "text": (b"hello, this is no picture", Reason.NOT_AN_IMAGE),
    "gif": (b"GIF89a" + bytes(40), Reason.NOT_AN_IMAGE),
    "bmp": (b"BM" + bytes(60), Reason.NOT_AN_IMAGE),
    "two bytes of a jpeg": (jpeg()[:2], Reason.NOT_AN_IMAGE),
    "jpeg header alone": (jpeg()[:20], Reason.TRUNCATED),
    "half a jpeg": (jpeg()[: len(jpeg()) // 2], Reason.TRUNCATED),
    "jpeg without its end": (jpeg()[:-2], Reason.TRUNCATED),
    "half a large jpeg, which is decoded at a reduced scale": (jpeg(1200, 900)[:20_000], Reason.TRUNCATED),
    "large jpeg without its end": (jpeg(1200, 900)[:-2], Reason.TRUNCATED),
    "jpeg without a frame header": (b"\xff\xd8\xff\xda\x00\x02" + bytes(20), Reason.TRUNCATED),
    "jpeg of noise": (b"\xff\xd8\xff" + bytes(range(256)), Reason.TRUNCATED),
    "half a png": (encoded("PNG")[: len(encoded("PNG")) // 2], Reason.TRUNCATED),
    "png without its end": (encoded("PNG")[:-12], Reason.TRUNCATED),
    "png header alone": (encoded("PNG")[:20], Reason.TRUNCATED),
    "half a webp": (encoded("WEBP")[: len(encoded("WEBP")) // 2], Reason.TRUNCATED),
    "png bomb": (png_that_declares(60_000, 60_000), Reason.TOO_MANY_PIXELS),
    "jpeg bomb": (jpeg_that_declares(65_000, 65_000), Reason.TOO_MANY_PIXELS),
    "seven pixels high": (jpeg(32, 7), Reason.TOO_SMALL),
    "png of nothing": (png_that_declares(0, 0), Reason.TOO_SMALL),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_for_its_reason(kind: str) -> None:
    image, reason = BAD[kind]
    (verdict,) = inspect([frame(image)], LIMITS)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is reason
    assert verdict.detail


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (640, 480), (1281, 963)])
def test_good_pictures_of_every_format_and_size_are_taken(form: str, size: tuple[int, int]) -> None:
    (verdict,) = inspect([frame(encoded(form, *size))], LIMITS)
    assert isinstance(verdict, Picture)
    assert (verdict.width, verdict.height) == size
    assert verdict.content_type == f"image/{form.lower()}"
    assert len(verdict.thumbnail) == 256


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\x00\x00"}),
        ("JPEG", {"subsampling": 2}),
    ],
)
def test_variants_of_the_formats_are_taken(form: str, options: dict[str, Any]) -> None:
    (verdict,) = inspect([frame(encoded(form, 100, 80, **options))], LIMITS)
    assert isinstance(verdict, Picture)
    assert (verdict.width, verdict.height) == (100, 80)


def test_pixels_of_a_bomb_are_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("the bomb was decoded")

    monkeypatch.setattr(inspection, "_decode", decoded)
    (verdict,) = inspect([frame(png_that_declares(60_000, 60_000))], LIMITS)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.TOO_MANY_PIXELS


def test_a_progressive_picture_of_too_many_scans_is_refused() -> None:
    whole = encoded("JPEG", 64, 64, progressive=True)
    start = whole.index(b"\xff\xda")
    end = whole.index(b"\xff", start + 2)
    while whole[end + 1] == 0:
        end = whole.index(b"\xff", end + 2)
    many = whole[:start] + whole[start:end] * 200 + whole[end:]
    (verdict,) = inspect([frame(many)], LIMITS)
    assert isinstance(verdict, Refusal)
    assert "scans" in verdict.detail


def test_more_bytes_than_allowed_are_refused() -> None:
    verdict = judge_header(frame(jpeg()), Limits(largest=100))
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(("ahead", "taken"), [(299, True), (300, True), (301, False), (86_400, False)])
def test_a_frame_from_the_future_is_refused(ahead: int, taken: bool) -> None:
    (verdict,) = inspect([frame(captured_at=NOW + timedelta(seconds=ahead))], LIMITS)
    assert isinstance(verdict, Picture) is taken
    if isinstance(verdict, Refusal):
        assert verdict.reason is Reason.CLOCK


def test_bad_frames_do_not_disturb_the_good_ones_beside_them() -> None:
    images = [jpeg(seed=1), b"", jpeg(28, 28, grey=True), b"text", jpeg(seed=2), jpeg()[:-5], encoded("PNG")]
    verdicts = inspect([frame(image) for image in images], LIMITS)
    assert [isinstance(verdict, Picture) for verdict in verdicts] == [True, False, True, False, True, False, True]


def test_a_frame_says_the_same_alone_and_in_a_batch() -> None:
    frames = [frame(jpeg(40, 30, seed=seed)) for seed in range(9)]
    together = inspect(frames, LIMITS)
    for one, verdict in zip(frames, together, strict=True):
        (alone,) = inspect([one], LIMITS)
        assert isinstance(alone, Picture)
        assert isinstance(verdict, Picture)
        assert alone.thumbnail == verdict.thumbnail
        assert alone.statistics.brightness == pytest.approx(verdict.statistics.brightness, abs=1e-6)


def test_padding_after_the_end_of_a_jpeg_is_harmless() -> None:
    (verdict,) = inspect([frame(jpeg() + bytes(16))], LIMITS)
    assert isinstance(verdict, Picture)


def test_sixteen_bit_pngs_are_scaled_not_clipped() -> None:
    import io

    from PIL import Image

    levels = np.full((16, 16), 0x8000, dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    (verdict,) = inspect([frame(buffer.getvalue())], LIMITS)
    assert isinstance(verdict, Picture)
    assert verdict.statistics.brightness == pytest.approx(0.5, abs=0.01)
