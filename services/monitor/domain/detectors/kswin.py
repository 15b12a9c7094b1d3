"""KSWIN (Raab, Heusinger & Schleif, Neurocomputing 2020), as River has it: Kolmogorov-Smirnov on a sliding window.
For thinned blocks only: 0.5 ms a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from services.monitor.domain.detectors.protocol import CHANNELS, LABELS
from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class KswinBank(RiverBank):
    """Options: `alpha`, `window_size`, `stat_size`, and `seed`: without one a restored detector would go on
    differently, so it is 1 where none is given.
    """

    name = "kswin"
    fits: ClassVar[tuple[str, ...]] = (CHANNELS, LABELS)

    def __init__(self, width: int, options: Mapping[str, float]) -> None:
        """`options` by River's names."""
        super().__init__(width, {"seed": 1, **options})

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        from river import drift

        maker: Callable[..., RiverDetector] = drift.KSWIN
        return maker
