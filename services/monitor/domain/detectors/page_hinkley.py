"""Page-Hinkley (Page, Biometrika 1954; Hinkley 1971), as River has it: a cumulated deviation from the running mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from services.monitor.domain.detectors.protocol import CHANNELS, LABELS
from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class PageHinkleyBank(RiverBank):
    """Options: `min_instances`, `delta`, `threshold`, `alpha`."""

    name = "page-hinkley"
    fits: ClassVar[tuple[str, ...]] = (CHANNELS, LABELS)

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river import drift

        maker: Callable[..., RiverDetector] = drift.PageHinkley
        return maker
