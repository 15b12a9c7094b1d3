"""What a camera wrote into its file is read; nonsense is left out and never makes a frame bad."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from services.ingest.domain import inspection
from services.ingest.domain.exif import Exif, read_exif
from services.ingest.domain.inspection import Limits, Picture, inspect
from tests.unit.ingest.pictures import frame, jpeg, pixels


def with_exif(form: str = "JPEG", **changed: object) -> bytes:
    tags = Image.Exif()
    tags[0x010F] = "Canon\x00"
    tags[0x0110] = "EOS R5"
    detail = tags.get_ifd(0x8769)
    detail[0x829A] = changed.get("exposure", IFDRational(1, 250))
    detail[0x829D] = IFDRational(28, 10)
    detail[0x8827] = 400
    detail[0x9003] = changed.get("taken", "2029:12:24 18:30:01")
    place = tags.get_ifd(0x8825)
    place[1], place[2] = "S", changed.get("latitude", (IFDRational(33), IFDRational(51), IFDRational(54)))
    place[3], place[4] = "E", (IFDRational(151), IFDRational(12), IFDRational(36))
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, form, exif=tags)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_is_read_from_every_format(form: str) -> None:
    (verdict,) = inspect([frame(with_exif(form))], Limits())
    assert isinstance(verdict, Picture)
    assert verdict.exif is not None
    assert (verdict.exif.brand, verdict.exif.model, verdict.exif.iso) == ("Canon", "EOS R5", 400)
    assert verdict.exif.exposure_seconds == pytest.approx(0.004)
    assert verdict.exif.aperture_f_number == pytest.approx(2.8)
    assert verdict.exif.taken_at == "2029-12-24T18:30:01"
    assert verdict.exif.latitude == pytest.approx(-33.865)
    assert verdict.exif.longitude == pytest.approx(151.21)


def test_nonsense_in_exif_is_left_out() -> None:
    odd = read_exif(
        with_exif(
            exposure=IFDRational(0, 1), taken="yesterday", latitude=(IFDRational(120), IFDRational(0), IFDRational(0))
        )
    )
    assert odd is not None
    assert (odd.exposure_seconds, odd.taken_at, odd.latitude) == (None, "", None)
    assert odd.brand == "Canon"


def test_broken_exif_does_not_make_a_frame_bad() -> None:
    good = jpeg()
    segment = b"\xff\xe1\x00\x40Exif\x00\x00II*\x00" + b"\xff" * 52
    (verdict,) = inspect([frame(good[:2] + segment + good[2:])], Limits())
    assert isinstance(verdict, Picture)
    assert verdict.exif is None


def test_a_picture_without_exif_does_not_pay_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: bytes) -> Exif:
        raise AssertionError("exifread was called")

    monkeypatch.setattr(inspection, "read_exif", read)
    (verdict,) = inspect([frame(jpeg())], Limits())
    assert isinstance(verdict, Picture)
