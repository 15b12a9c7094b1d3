"""ADWIN (Bifet & Gavalda, SIAM SDM 2007), as River has it: an adaptive window that is cut where two parts differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from services.monitor.domain.detectors.protocol import CHANNELS, LABELS
from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class AdwinBank(RiverBank):
    """Options: `delta`, the confidence of a cut; `grace_period`; `clock`."""

    name = "adwin"
    fits: ClassVar[tuple[str, ...]] = (CHANNELS, LABELS)

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river import drift

        maker: Callable[..., RiverDetector] = drift.ADWIN
        return maker
