"""KSWIN (Raab, Heusinger & Schleif, Neurocomputing 2020), as River has it: Kolmogorov-Smirnov on a sliding window.
For thinned blocks only: 0.5 ms a step.
"""

from __future__ import annotations

from collections.abc import Callable

from river import drift

from services.monitor.domain.detectors.river import RiverBank, RiverDetector


class KswinBank(RiverBank):
    """Options: `alpha`, `window_size`, `stat_size`; always give `seed`, or a restored one goes on differently."""

    name = "kswin"

    @classmethod
    def maker(cls) -> Callable[..., RiverDetector]:
        """River's class."""
        maker: Callable[..., RiverDetector] = drift.KSWIN
        return maker
