"""The demo's images and what is true of each frame it sent."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from services.local.demo.scenario import CAMERAS, Image, Scenario


@dataclass(frozen=True, slots=True)
class Frame:
    """A live frame before it is sent; `number` counts from 0 over all cameras. `truth` is the class that its picture
    shows by the names of its time, `kind` by the names at the start.
    """

    number: int
    camera: str
    png: bytes
    truth: int
    changed: bool
    kind: int


@dataclass(slots=True)
class FrameSource:
    """Draws live frames without end: images that the first model never saw, seen through the scenario.

    `images` is uint8 [n, height, width], `labels` int [n]. An image comes again only when all have been seen, then
    with the lowest bit of one pixel turned, so that two frames are never the same bytes and the picture is the same.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    scenario: Scenario
    seed: int
    sent: int = 0
    _rng: np.random.Generator = field(init=False)
    _order: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, 11])
        self._order = self._rng.permutation(len(self.images))

    def next(self) -> Frame:
        """The next frame, of a camera drawn at random."""
        number, self.sent = self.sent, self.sent + 1
        names = sorted(CAMERAS)
        camera = names[int(self._rng.integers(len(names)))]
        lap, place = divmod(number, len(self._order))
        chosen = int(self._order[place])
        image = turned(self.images[chosen], lap)
        seen = self.scenario.picture(image, camera, number, self._rng)
        kind = int(self.labels[chosen])
        truth = self.scenario.truth(kind, camera, number)
        full = camera in self.scenario.cameras and self.scenario.progress(number) == 1.0
        return Frame(number, camera, png(seen), truth, full, kind)


def png(image: Image) -> bytes:
    """A grey image as PNG; no pixel is lost."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image, mode="L").save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


@dataclass(slots=True)
class Truth:
    """What the demo knows of each acknowledged frame, by the frame's number and, once stored, by asset id.

    `label` is by the names of the frame's time, `kind` by those at the start.
    """

    scenario: Scenario | None = None
    label: dict[int, int] = field(default_factory=dict)
    camera: dict[int, str] = field(default_factory=dict)
    captured_at: dict[int, datetime] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    kind: dict[int, int] = field(default_factory=dict)
    newest: int = 0
    asset: dict[str, int] = field(default_factory=dict)

    def note_sent(self, frame: Frame, at: datetime) -> None:
        """The broker acknowledged it."""
        self.label[frame.number] = frame.truth
        self.camera[frame.number] = frame.camera
        self.captured_at[frame.number] = at
        self.kind[frame.number] = frame.kind
        self.newest = max(self.newest, frame.number)
        if frame.changed:
            self.changed.add(frame.number)

    def note_asset(self, asset_id: str, number: int) -> None:
        """Ingest stored it under that id."""
        self.asset[asset_id] = number

    def label_of(self, asset_id: str) -> int | None:
        """The class index of an asset by the names of today, however old it is, or None when it is not one of the
        demo's live frames.
        """
        number = self.asset.get(asset_id)
        if number is None or number not in self.kind:
            return None
        if self.scenario is None:
            return self.kind[number]
        return self.scenario.truth(self.kind[number], self.camera[number], self.newest)


def turned(image: Image, lap: int) -> Image:
    """The image with the lowest bit of its pixel number `lap` turned; itself on the first lap, 0."""
    if not lap:
        return image
    found = image.copy()
    found.flat[lap % found.size] ^= 1
    return found
